package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"gatepost/internal/admin/pages"
	"gatepost/internal/config"
	"gatepost/internal/dkim"
	"gatepost/internal/smtpclient"
)

// keysAPI tells about keys and certificates for the pages.
type keysAPI struct{ *app }

// askTime is how long the DNS is asked for all records of keys together.
const askTime = 10 * time.Second

// DKIM implements pages.Keys.
func (k keysAPI) DKIM(ctx context.Context) []pages.DKIMKey {
	gen := k.state.Load().gen
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	list := make([]pages.DKIMKey, 0, len(gen.cfg.DKIM))
	for i := range gen.cfg.DKIM {
		list = append(list, dkimState(ctx, gen, &gen.cfg.DKIM[i]))
	}
	return list
}

// dkimState compares a key with what the DNS says.
func dkimState(ctx context.Context, gen *generation, d *config.DKIM) pages.DKIMKey {
	x := pages.DKIMKey{Name: string(d.Name), Domain: string(d.Domain), Selector: d.Selector}
	for i := range gen.cfg.Transports {
		if slices.Contains(gen.cfg.Transports[i].DKIM, d.Name) {
			x.Transports = append(x.Transports, string(gen.cfg.Transports[i].Name))
		}
	}
	key, err := dkim.LoadKey(string(d.KeyFile))
	if err != nil {
		x.Problem = err.Error()
		return x
	}
	record, err := dkim.DNSRecord(d.Selector, string(d.Domain), key.Public())
	if err != nil {
		x.Problem = err.Error()
		return x
	}
	x.RecordName, x.Record, x.Zone = record.Name, record.Value(), record.String()
	found, err := gen.resolver.TXT(ctx, record.Name)
	switch {
	case err != nil:
		x.Problem = "the DNS says nothing: " + err.Error()
	case len(found) == 0:
		x.Problem = "there is no such record yet"
	case !slices.ContainsFunc(found, func(s string) bool { return publicPart(s) == publicPart(x.Record) }):
		x.Problem = "the record that is published has another key: signatures do not hold"
	default:
		x.Published = true
	}
	return x
}

// publicPart is the key in a record, which may be written with blanks in it.
func publicPart(record string) string {
	for tag := range strings.SplitSeq(record, ";") {
		if key, ok := strings.CutPrefix(strings.TrimSpace(tag), "p="); ok {
			return strings.Join(strings.Fields(key), "")
		}
	}
	return ""
}

// Certificates implements pages.Keys.
func (k keysAPI) Certificates() []pages.CertificateFile {
	var list []pages.CertificateFile
	for _, f := range k.state.Load().gen.cfg.Files() {
		if f.Kind != config.FileCertificate {
			continue
		}
		c := pages.CertificateFile{Path: f.Path, Keys: f.Keys}
		text, err := os.ReadFile(f.Path)
		if err == nil {
			c.Chain, err = chainOf(text)
		}
		if err != nil {
			c.Problem = err.Error()
		}
		list = append(list, c)
	}
	return list
}

// chainOf are the certificates of a file.
func chainOf(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return chain, err
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// Fetch implements pages.Keys: only the hosts of a transport are asked, so that nobody
// has the gateway connect to anywhere else.
func (k keysAPI) Fetch(ctx context.Context, transport string) ([]*x509.Certificate, error) {
	gen := k.state.Load().gen
	i := slices.IndexFunc(gen.cfg.Transports, func(t config.Transport) bool { return string(t.Name) == transport })
	if i < 0 || len(gen.cfg.Transports[i].Hosts) == 0 {
		return nil, errors.New("choose a transport with hosts")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*askTime)
	defer cancel()
	var errs []error
	for _, h := range gen.cfg.Transports[i].Hosts {
		chain, err := fetchFrom(ctx, gen, h)
		if err == nil {
			return chain, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", h, err))
	}
	return nil, errors.Join(errs...)
}

// fetchFrom opens a session, starts TLS and looks at what the host shows. Nothing is
// verified: whoever looks at the result has to.
func fetchFrom(ctx context.Context, gen *generation, h config.HostPort) ([]*x509.Certificate, error) {
	if h.Unix != "" {
		return nil, errors.New("a socket has no certificate")
	}
	ip := h.IP()
	if !ip.IsValid() {
		addrs, err := gen.resolver.Addrs(ctx, h.Host)
		if err != nil {
			return nil, err
		}
		if len(addrs) == 0 {
			return nil, &net.DNSError{Err: "no address", Name: h.Host}
		}
		ip = addrs[0]
	}
	d := smtpclient.NewDialer(smtpclient.Config{Hostname: string(gen.cfg.Hostname)})
	conn, err := d.Dial(ctx, smtpclient.Target{Network: "tcp", Address: netip.AddrPortFrom(ip, uint16(h.Port)).String(), Name: h.Host})
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	err = conn.StartTLS(ctx, &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: h.Host, InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			chain = s.PeerCertificates
			return nil
		},
	}, false)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	conn.Quit()
	return chain, nil
}
