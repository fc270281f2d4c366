package interop

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/netns"
	"gatepost/test/peer"
	"gatepost/test/postfix"
	"gatepost/test/sink"
)

// inTheWire is a client and a server on hosts of their own, and a Gatepost on the
// router between them, to which the router's firewall diverts.
type inTheWire struct {
	*netns.Net
	gate           *gatepost.Instance
	mode, delivery string
}

// newWire starts the gateway. transport and more are lines of TOML for the transport
// and at the end. The firewall is left alone.
func newWire(t *testing.T, mode, delivery, transport, more string) *inTheWire {
	t.Helper()
	return newWireIn(t, netns.Topology(t), mode, delivery, transport, more)
}

// newWireIn is newWire in another network.
func newWireIn(t *testing.T, n *netns.Net, mode, delivery, transport, more string) *inTheWire {
	t.Helper()
	peer.Require(t, "swaks")
	if r := peer.Run(t, "", "perl", "-MIO::Socket::INET6", "-e", "1"); r.Status != 0 {
		peer.Missing(t, "swaks has no IPv6 without libio-socket-inet6-perl; scripts/deps installs what tests need")
	}
	w := &inTheWire{Net: n, mode: mode, delivery: delivery}
	w.gate = gatepost.New(t, gatepost.Options{NoWait: true, Wrap: n.Gateway.Enter(), Settings: gatepost.Settings{
		More: wireConfig(mode, delivery, transport) + more}})
	w.start(t)
	return w
}

func wireConfig(mode, delivery, transport string) string {
	var b strings.Builder
	for _, l := range []struct{ name, port, tls, ports string }{{"wire", "2525", "starttls", "25, 587"}, {"wires", "2465", "implicit", "465"}} {
		fmt.Fprintf(&b, "[[listener]]\nname = %q\naddress = [\"0.0.0.0:%s\", \"[::]:%s\"]\ntls = %q\ninterception = %q\nintercept_ports = [%s]\n",
			l.name, l.port, l.port, l.tls, mode, l.ports)
		fmt.Fprintf(&b, "[[domain]]\nname = \"wire.example\"\nlistener = %q\ntransport = \"there\"\ndelivery = %q\n", l.name, delivery)
	}
	fmt.Fprintf(&b, "[[transport]]\nname = \"there\"\nkind = \"original\"\nretry = { delays = [\"1s\"], give_up_after = \"1h\", warn_after = \"50m\" }\n%s\n", transport)
	return b.String()
}

// start starts the gateway, again perhaps, and waits until it listens.
func (w *inTheWire) start(t *testing.T) {
	t.Helper()
	if err := w.gate.Start(); err != nil {
		t.Fatal(err)
	}
	gatepost.Eventually(t, "the gateway listens", patience, func() bool {
		c, err := w.Gateway.Dial(t.Context(), "tcp", w.gate.SMTP)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// divert makes the rules of the configuration.
func (w *inTheWire) divert(t *testing.T, more ...string) {
	t.Helper()
	w.firewall(t, append([]string{"-c", w.gate.ConfigFile, "--in", w.ToClient, "--apply"}, more...)...)
}

func (w *inTheWire) firewall(t *testing.T, args ...string) string {
	t.Helper()
	return w.Gateway.Run(t, os.Getenv(gatepost.BinaryVar), append([]string{"firewall"}, args...)...)
}

// swaks sends a message from the client's host to a server.
func (w *inTheWire) swaks(t *testing.T, server string, m ledger.Message, args ...string) (string, bool) {
	t.Helper()
	out, err := w.Client.Try(t, "", "swaks", append([]string{"--server", server, "--helo", "client.example",
		"--from", "ada@out.example", "--data", "@" + write(t, m.Data)}, args...)...)
	return out, err == nil
}

// seen is how the server names who connected to it: the client with TPROXY, where it
// is asked for, and else the gateway.
func (w *inTheWire) seen(spoofed bool, network string) string {
	addr := map[string]string{"tcp4": "10.9.2.1", "tcp6": "IPv6:fd09:2::1"}[network]
	if spoofed {
		addr = map[string]string{"tcp4": "10.9.1.2", "tcp6": "IPv6:fd09:1::2"}[network]
	}
	return "from gw.example.com (unknown [" + addr + "])"
}

// serve starts a Postfix on the server's host, at ports 25, 587 and 465, and what it
// takes to. It knows anybody but nobody@wire.example.
func (w *inTheWire) serve(t *testing.T) *sink.Sink {
	t.Helper()
	end := sink.Start(t, sink.Options{Listener: w.Server.Listen(t, "tcp", "127.0.0.1:0")})
	cert := peer.NewCertificate(t, "server.wire.example")
	var services []string
	for _, host := range []string{"10.9.2.2", "[fd09:2::2]"} {
		services = append(services, host+":587 inet n - n - - smtpd", host+":465 inet n - n - - smtpd\n  -o smtpd_tls_wrappermode=yes")
	}
	startPostfix(t, postfix.Config{Listen: "10.9.2.2:25", Next: end.Addr, Services: append(services, "[fd09:2::2]:25 inet n - n - - smtpd"),
		Enter: w.Server.Enter(), Dial: w.Server.Dial, Params: map[string]string{
			"inet_interfaces": "all", "inet_protocols": "all", "relay_domains": "wire.example", "mynetworks": "127.0.0.0/8",
			"smtpd_recipient_restrictions": "check_recipient_access inline:{{nobody@wire.example=550 5.1.1 Postfix does not know him}},reject_unauth_destination",
			"smtpd_tls_security_level":     "may", "smtpd_tls_received_header": "yes",
			"smtpd_tls_cert_file": cert.CertFile, "smtpd_tls_key_file": cert.KeyFile,
		}})
	return end
}

// Catalogue PXY-13. Real swaks and a real Postfix, neither of which knows of the
// gateway.
func TestMailGoesThroughTheWire(t *testing.T) {
	for _, mode := range []string{"redirect", "tproxy"} {
		for _, delivery := range []string{"proxy", "relay"} {
			t.Run(mode+" "+delivery, func(t *testing.T) {
				t.Parallel()
				spoof := mode == "tproxy"
				w := newWire(t, mode, delivery, fmt.Sprintf("spoof_client = %t", spoof), "")
				end := w.serve(t)
				w.divert(t)
				for network, server := range map[string]string{"tcp4": "10.9.2.2", "tcp6": "fd09:2::2"} {
					w.goesThrough(t, end, network, server, spoof)
				}
				// Lines of the log are written a moment later.
				gatepost.Eventually(t, "the log says where the client wanted to go", patience, func() bool {
					log := w.gate.MailLog()
					return strings.Contains(log, "original=10.9.2.2:587") && strings.Contains(log, "original=[fd09:2::2]:25")
				})
			})
		}
	}
}

func (w *inTheWire) goesThrough(t *testing.T, end *sink.Sink, network, server string, spoof bool) {
	t.Helper()
	answer := "250 2.0.0 OK: queued ("
	if w.delivery == "proxy" {
		answer = "250 2.0.0 Ok: queued as " // Postfix's own words
	}
	for _, args := range [][]string{{"--port", "25"}, {"--port", "587", "-tls"}, {"--port", "465", "-tlsc"}} {
		m := ledger.New(3000)
		out, ok := w.swaks(t, server, m, append(args, "--to", "bob@wire.example")...)
		if !ok || !strings.Contains(out, answer) {
			t.Errorf("%s %q: swaks says\n%s", server, args, out)
			continue
		}
		head := header(arrived(t, end, m.ID))
		mustContain(t, "the mail that came to "+server+" by "+strings.Join(args, " "), head, w.seen(spoof, network), "with ESMTPS")
		if w.delivery == "proxy" {
			out, ok = w.swaks(t, server, ledger.New(10), append(args, "--to", "nobody@wire.example")...)
			if ok || !strings.Contains(out, "550 5.1.1 <nobody@wire.example>: Recipient address rejected: Postfix does not know him") {
				t.Errorf("%s %q to nobody: swaks says\n%s", server, args, out)
			}
		}
	}
}

// A Postfix is the client, too, and gives the mail to the server's Postfix without
// knowing of the gateway.
func TestPostfixSendsThroughTheWire(t *testing.T) {
	t.Parallel()
	w := newWire(t, "tproxy", "proxy", "spoof_client = true", "")
	end := w.serve(t)
	w.divert(t)
	for network, server := range map[string]string{"tcp4": "[10.9.2.2]:25", "tcp6": "[fd09:2::2]:25"} {
		port := map[string]string{"tcp4": "2504", "tcp6": "2506"}[network]
		startPostfix(t, postfix.Config{Listen: "127.0.0.1:" + port, Hostname: "client.example", Enter: w.Client.Enter(), Dial: w.Client.Dial,
			Params: map[string]string{"relayhost": server, "default_transport": "smtp", "inet_protocols": "all", "smtp_tls_security_level": "encrypt",
				"inet_interfaces": "127.0.0.1"}})
		m := ledger.New(200_000)
		if out, ok := w.swaks(t, "127.0.0.1", m, "--port", port, "--to", "bob@wire.example"); !ok {
			t.Fatalf("swaks says\n%s", out)
		}
		mustContain(t, "the mail that came to "+server, header(arrived(t, end, m.ID)), w.seen(true, network))
	}
}

// Clients see the gateway's certificate: what is encrypted can be scanned only where
// it is decrypted.
func TestOpenSSLSeesTheGatewaysCertificate(t *testing.T) {
	t.Parallel()
	peer.Require(t, "openssl")
	w := newWire(t, "redirect", "proxy", "", "")
	w.serve(t)
	w.divert(t)
	for _, args := range []string{
		"-connect 10.9.2.2:25 -starttls smtp", "-connect [fd09:2::2]:587 -starttls smtp", "-connect 10.9.2.2:465", "-connect [fd09:2::2]:465",
	} {
		out, err := w.Client.Try(t, "QUIT\r\n", "openssl", append([]string{"s_client", "-crlf", "-quiet"}, strings.Fields(args)...)...)
		if err != nil || !strings.Contains(out, "CN = gw.example.com") && !strings.Contains(out, "CN=gw.example.com") {
			t.Errorf("openssl %s: %v\n%s", args, err, out)
		}
	}
}

// peers is a listener that notes who connects.
type peers struct {
	net.Listener
	mu   sync.Mutex
	from []string
}

// Accept implements net.Listener.
func (p *peers) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err == nil {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		p.mu.Lock()
		p.from = append(p.from, host)
		p.mu.Unlock()
	}
	return c, err
}

// Mail in the queue knows where it was meant to go, over a crash too; each server is a
// destination of its own.
func TestTheQueueKeepsWhereMailWasMeantToGo(t *testing.T) {
	t.Parallel()
	w := newWire(t, "tproxy", "relay", "spoof_client = true", "")
	w.Server.Run(t, "ip", "addr", "add", "10.9.2.3/24", "dev", "eth0")
	w.divert(t)
	sent := map[string]string{}
	for _, server := range []string{"10.9.2.2", "10.9.2.3", "fd09:2::2"} {
		m := ledger.New(1000)
		if out, ok := w.swaks(t, server, m, "--to", "bob@wire.example"); !ok {
			t.Fatalf("swaks says\n%s", out)
		}
		sent[server] = m.ID
	}
	w.gate.Kill()
	w.start(t)
	rows, err := w.gate.Queue()
	if err != nil {
		t.Fatal(err)
	}
	var hops []string
	for _, row := range rows {
		hops = append(hops, fmt.Sprint(row["next_hop"]))
	}
	slices.Sort(hops)
	if want := []string{"10.9.2.2:25", "10.9.2.3:25", "[fd09:2::2]:25"}; !slices.Equal(hops, want) {
		t.Errorf("the next hops are %q, want %q", hops, want)
	}
	for server, id := range sent {
		l := &peers{Listener: w.Server.Listen(t, "tcp", net.JoinHostPort(server, "25"))}
		end := sink.Start(t, sink.Options{Listener: l})
		arrived(t, end, id)
		if n := len(end.Mails()); n != 1 {
			t.Errorf("%s has %d mails", server, n)
		}
		client := w.Client.IPv4.String()
		if strings.Contains(server, ":") {
			client = w.Client.IPv6.String()
		}
		l.mu.Lock()
		if !slices.Contains(l.from, client) || slices.ContainsFunc(l.from, func(a string) bool { return a != client }) {
			t.Errorf("%s saw %q, want the client's %s", server, l.from, client)
		}
		l.mu.Unlock()
	}
}

// sessions counts those that were diverted.
func sessions(log string) (n int) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "session ended") && strings.Contains(line, "original=") {
			n++
		}
	}
	return n
}

// Catalogue PXY-13: rules of somebody who did not think of our own connections.
func TestLoopsEndAtTheFirstTurn(t *testing.T) {
	t.Parallel()
	w := newWire(t, "redirect", "proxy", "", "")
	w.serve(t)
	const rules = "table inet theirs {\n" +
		"chain in {\ntype nat hook prerouting priority dstnat\ntcp dport 25 redirect to :2525\n}\n" +
		"chain out {\ntype nat hook output priority -100\ntcp dport 25 redirect to :2525\n}\n}\n"
	if out, err := w.Gateway.Try(t, rules, "nft", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	for _, server := range []string{"10.9.2.2", "fd09:2::2"} {
		out, ok := w.swaks(t, server, ledger.New(10), "--to", "bob@wire.example")
		if ok || !strings.Contains(out, "451 4.4.1") {
			t.Errorf("%s: swaks says\n%s", server, out)
		}
	}
	for _, args := range [][]string{{"10.9.1.1", "25"}, {"fd09:1::1", "25"}, {"10.9.2.1", "25"}, {"10.9.1.1", "2525"}} {
		out, ok := w.swaks(t, args[0], ledger.New(10), "--port", args[1], "--to", "bob@wire.example")
		if ok || !strings.Contains(out, "421 4.4.6 This connection leads back to here") {
			t.Errorf("%s: swaks says\n%s", args, out)
		}
	}
	w.gate.Stop()
	log := w.gate.MailLog()
	// Six clients; each of the first two made Gatepost try at EHLO and at RCPT.
	if n := sessions(log); n < 8 || n > 10 {
		t.Errorf("there were %d sessions:\n%s", n, log)
	}
	mustContain(t, "the log", log, "the connection is one of our own", "the destination is this host")
}

// The gateway is a bridge: client and server are in one network, and know of nothing.
func TestMailGoesThroughABridge(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"redirect", "tproxy"} {
		n := netns.Bridge(t)
		if _, err := os.Stat("/proc/sys/net/bridge"); err == nil && mode == "tproxy" {
			n.Gateway.Sysctl(t, "net/bridge/bridge-nf-call-iptables", "0")
			n.Gateway.Sysctl(t, "net/bridge/bridge-nf-call-ip6tables", "0")
		}
		w := newWireIn(t, n, mode, "proxy", fmt.Sprintf("spoof_client = %t", mode == "tproxy"), "")
		// The ports of a bridge stand in /sys, which shows the namespace that it was mounted in.
		n.Gateway.Run(t, "unshare", "--mount", "sh", "-c", `mount -t sysfs none /sys && exec "$0" "$@"`,
			os.Getenv(gatepost.BinaryVar), "firewall", "-c", w.gate.ConfigFile, "--bridge", "br0", "--apply")
		for _, network := range []string{"tcp4", "tcp6"} {
			server, from := n.Server.Address(network).String(), n.Gateway.Address(network).String()
			if mode == "tproxy" {
				from = n.Client.Address(network).String()
			}
			l := &peers{Listener: n.Server.Listen(t, "tcp", net.JoinHostPort(server, "25"))}
			end := sink.Start(t, sink.Options{Listener: l})
			m := ledger.New(1000)
			if out, ok := w.swaks(t, server, m, "--to", "bob@wire.example"); !ok {
				t.Fatalf("%s %s: swaks says\n%s", mode, network, out)
			}
			arrived(t, end, m.ID)
			l.mu.Lock()
			if !slices.Contains(l.from, from) || len(l.from) != 1 {
				t.Errorf("%s: the server saw %q, want %s", mode, l.from, from)
			}
			l.mu.Unlock()
		}
	}
}

// Programs on the gateway's own host are diverted with --local, and Gatepost's own
// connections are not.
func TestAHostProtectsItself(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"redirect", "tproxy"} {
		w := newWire(t, mode, "proxy", "", "")
		end := w.serve(t)
		w.firewall(t, "-c", w.gate.ConfigFile, "--local", "--apply")
		for _, server := range []string{"10.9.2.2", "fd09:2::2"} {
			m := ledger.New(1000)
			out, err := w.Gateway.Try(t, "", "swaks", "--server", server, "--helo", "form.example", "--from", "ada@out.example",
				"--to", "bob@wire.example", "--data", "@"+write(t, m.Data))
			if err != nil {
				t.Fatalf("%s: swaks says\n%s", mode, out)
			}
			arrived(t, end, m.ID)
		}
		w.gate.Stop()
		if log := w.gate.MailLog(); sessions(log) != 2 || strings.Contains(log, "refused") {
			t.Errorf("%s: the log says\n%s", mode, log)
		}
		w.firewall(t, "--remove")
		if rules := w.Gateway.Run(t, "nft", "list", "ruleset"); strings.Contains(rules, "gatepost") {
			t.Errorf("after --remove there is\n%s", rules)
		}
	}
}

// Without its rights Gatepost does not start, and says which they are.
func TestWhatInterceptionNeedsIsSaid(t *testing.T) {
	t.Parallel()
	host := netns.New(t, "host")
	peer.Require(t, "setpriv")
	unprivileged := append(host.Enter(), peer.Find("setpriv"), "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw")
	for _, tt := range []struct{ mode, transport, want string }{
		{"tproxy", "", "listen on 0.0.0.0:2525"}, {"tproxy", "spoof_client = true", "transport there: spoof_client"}, {"redirect", "", ""},
	} {
		g := gatepost.New(t, gatepost.Options{NoWait: true, Wrap: unprivileged, Settings: gatepost.Settings{More: wireConfig(tt.mode, "proxy", tt.transport)}})
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
		if tt.want == "" {
			gatepost.Eventually(t, "it starts", patience, func() bool { return strings.Contains(g.MailLog(), "our own connections carry no mark") })
			g.Kill()
			continue
		}
		if status, err := g.Wait(patience); err != nil || status != 1 {
			t.Errorf("%s %s: status %d, %v", tt.mode, tt.transport, status, err)
		}
		mustContain(t, "what it says", g.Output(), tt.want, "needs CAP_NET_ADMIN", "docs/interception.md#rights")
	}
}
