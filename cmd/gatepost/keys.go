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
	var list []pages.DKIMKey
	for i := range gen.cfg.DKIM {
		d := &gen.cfg.DKIM[i]
		for _, domain := range domainsOfKey(d) {
			list = append(list, dkimState(ctx, gen, d, string(domain)))
		}
	}
	return list
}

// dkimState compares a key with what the DNS says.
func dkimState(ctx context.Context, gen *generation, d *config.DKIM, domain string) pages.DKIMKey {
	x := pages.DKIMKey{Name: string(d.Name), Domain: domain, Selector: d.Selector, Transports: transportsWith(gen.cfg, d.Name)}
	key, err := dkim.LoadKey(string(d.KeyFile))
	if err != nil {
		x.Problem = err.Error()
		return x
	}
	record, err := dkim.DNSRecord(d.Selector, domain, key.Public())
	if err != nil {
		x.Problem = err.Error()
		return x
	}
	x.RecordName, x.Record, x.Zone, x.Published = record.Name, record.Value(), record.String(), true
	if err := dkim.Published(ctx, gen.resolver, d.Selector, domain, key.Public()); err != nil {
		x.Published, x.Problem = errors.Is(err, dkim.ErrTesting), err.Error()
	}
	return x
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
