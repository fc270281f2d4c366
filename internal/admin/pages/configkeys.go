package pages

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
	"gatepost/internal/dkim"
)

// Keys tells about keys and certificates.
type Keys interface {
	// DKIM are the keys that sign, with what the DNS says about them.
	DKIM(ctx context.Context) []DKIMKey
	// Certificates are those in the files that the configuration names.
	Certificates() []CertificateFile
	// Fetch asks the hosts of a transport for their certificate, which nobody has
	// verified.
	Fetch(ctx context.Context, transport string) ([]*x509.Certificate, error)
}

// DKIMKey is a key that signs.
type DKIMKey struct {
	Name, Domain, Selector string
	// Transports are those that sign with it.
	Transports []string
	// RecordName and Record are what has to be published, Zone the same as a line of a
	// zone file.
	RecordName, Record, Zone string
	Published                bool
	// Problem is why it is not in order, "" where it is.
	Problem string
}

// CertificateFile is a file with certificates.
type CertificateFile struct {
	Path    string
	Keys    []string
	Chain   []*x509.Certificate
	Problem string
}

// shownCertificate is a certificate as a page shows it.
type shownCertificate struct {
	Subject, Issuer string
	Names           []string
	From, Until     time.Time
	// State is "good", "warn" where it ends soon, "bad" where it does not hold now.
	State, Left string
	Fingerprint string
}

// soon is how long before its end a certificate is spoken of.
const soon = 21 * 24 * time.Hour

func shownChain(chain []*x509.Certificate) []shownCertificate {
	var list []shownCertificate
	for _, c := range chain {
		sum := sha256.Sum256(c.Raw)
		x := shownCertificate{
			Subject: c.Subject.String(), Issuer: c.Issuer.String(), Names: c.DNSNames, From: c.NotBefore, Until: c.NotAfter,
			State: "good", Left: plural(int(time.Until(c.NotAfter).Hours()/24), "day") + " left", Fingerprint: hex.EncodeToString(sum[:]),
		}
		switch now := time.Now(); {
		case now.After(c.NotAfter):
			x.State, x.Left = "bad", "expired"
		case now.Before(c.NotBefore):
			x.State, x.Left = "bad", "not valid yet"
		case now.Add(soon).After(c.NotAfter):
			x.State = "warn"
		}
		list = append(list, x)
	}
	return list
}

// certificatePage is the page of certificates.
type certificatePage struct {
	Files      []shownFile
	Transports []string
	// Fetched is what a host has shown, of Transport.
	Transport string
	Fetched   []shownCertificate
	PEM       string
}

type shownFile struct {
	Path    string
	Keys    []string
	Problem string
	Chain   []shownCertificate
	// Cert and Key are the pair as the list of files has it; "" where it is not one, or
	// cannot be replaced here.
	Cert, Key string
}

// pairOf finds the key of a certificate: it is named beside it.
func pairOf(files []change.File, keys []string) (cert, key string) {
	for _, f := range files {
		switch {
		case f.Elsewhere != "":
		case slices.Equal(f.Keys, keys):
			cert = f.Path
		case len(keys) > 0 && slices.Contains(f.Keys, strings.Replace(keys[0], "cert_file", "key_file", 1)):
			key = f.Path
		}
	}
	if key == "" {
		return "", ""
	}
	return cert, key
}

// replacePair writes a certificate and its key together: one without the other would
// not fit. Neither goes back to the browser.
func (c *configPages) replacePair(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	what, err := readChange(r)
	var list []change.FileText
	for _, field := range []string{"cert", "key"} {
		f, fileErr := c.config.File(r.PostFormValue(field))
		if fileErr != nil {
			err = errors.Join(err, fileErr)
			continue
		}
		text := strings.TrimSpace(edit.LineEnds(r.PostFormValue(field+"-pem"), "")) + "\n"
		list = append(list, change.FileText{Path: f.Path, Base: f.Version, Text: text})
	}
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	done, err := c.config.Apply(r.Context(), change.Change{By: a.Name, Why: what.Why, Files: list})
	admin.NoteChange(a, done, what.Why)
	c.applied(w, r, a, done, err)
}

func (c *configPages) certificates(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	c.certificatesPage(w, r, a, certificatePage{}, nil)
}

func (c *configPages) certificatesPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, p certificatePage, failed error) {
	d, err := c.readDraft(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	files, err := c.config.Files()
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	for _, f := range c.cfg.Keys.Certificates() {
		x := shownFile{Path: f.Path, Keys: f.Keys, Problem: f.Problem, Chain: shownChain(f.Chain)}
		x.Cert, x.Key = pairOf(files, f.Keys)
		p.Files = append(p.Files, x)
	}
	p.Transports = names(d.doc, "transport")
	v := page{Template: "config-certificates.html", Title: "Certificates", Data: p}
	if failed != nil {
		v.Status, v.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	c.show(w, r, a, v)
}

// fetchCertificate shows the certificate of a transport, or with "pin" makes the change
// that trusts the one in the form and no other.
func (c *configPages) fetchCertificate(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	p := certificatePage{Transport: r.PostFormValue("transport")}
	if r.PostFormValue("do") == "pin" {
		c.pin(w, r, a, p)
		return
	}
	chain, err := c.cfg.Keys.Fetch(r.Context(), p.Transport)
	if err != nil {
		c.certificatesPage(w, r, a, p, err)
		return
	}
	p.Fetched = shownChain(chain)
	for _, cert := range chain[:min(1, len(chain))] {
		p.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	c.certificatesPage(w, r, a, p, nil)
}

func (c *configPages) pin(w http.ResponseWriter, r *http.Request, a *admin.Actor, p certificatePage) {
	d, err := c.readDraft(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	text := strings.TrimSpace(edit.LineEnds(r.PostFormValue("pem"), "")) + "\n"
	at := edit.Path{{Key: "transport"}}.Named(p.Transport)
	file, named := textAt(d.doc, at.With("tls_ca_file"))
	if !named {
		file = p.Transport + "-pinned.pem"
	}
	if err := pinned(d.doc, at, file, text); err != nil {
		p.PEM = text
		c.certificatesPage(w, r, a, p, err)
		return
	}
	f := change.FileText{Path: file, Text: text}
	if have, err := c.config.File(file); err == nil {
		f.Base = have.Version
	}
	d.put(f)
	c.review(w, r, a, d.change(), "/config/certificates")
}

// pinned has a transport trust a certificate in a file and no other. The name that is
// verified is one of the certificate's: hosts with one of their own making are seldom
// called by it.
func pinned(d *edit.Document, at edit.Path, file, text string) error {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return &change.BadError{Text: "paste a certificate in PEM form: it begins with -----BEGIN CERTIFICATE-----"}
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return &change.BadError{Text: "this is no certificate: " + err.Error()}
	}
	if time.Now().After(cert.NotAfter) {
		return &change.BadError{Text: "this certificate has expired, on " + cert.NotAfter.UTC().Format(time.DateOnly) + ": the server needs a new one"}
	}
	if _, ok := d.Get(at); !ok {
		return &change.BadError{Text: "choose a transport"}
	}
	if err := errors.Join(d.Set(at.With("tls_ca_file"), file), d.Set(at.With("tls"), "verify")); err != nil {
		return err
	}
	hosts, name := texts(d, at.With("hosts")), ""
	if name, _ = textAt(d, at.With("tls_name")); name != "" {
		hosts = []string{name}
	}
	holds := func(host string) bool {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		return cert.VerifyHostname(host) == nil
	}
	if len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h string) bool { return !holds(h) }) {
		return nil
	}
	i := slices.IndexFunc(cert.DNSNames, func(n string) bool { return !strings.Contains(n, "*") })
	if i < 0 {
		return &change.BadError{Text: "this certificate is for none of the transport's hosts, and names none that could be verified: the server needs one with its name in it"}
	}
	return d.Set(at.With("tls_name"), cert.DNSNames[i])
}

func (c *configPages) dkimKeys(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	c.dkimPage(w, r, a, nil)
}

func (c *configPages) dkimPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, failed error) {
	d, err := c.readDraft(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	p := page{Template: "config-dkim.html", Title: "DKIM keys", Data: map[string]any{
		"Keys": c.cfg.Keys.DKIM(r.Context()), "Kinds": dkim.Kinds(), "Domains": names(d.doc, "domain"), "Domain": r.PostFormValue("domain"),
	}}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	c.show(w, r, a, p)
}

// makeDKIM makes a key and the [[dkim]] for it. It signs nothing before a transport
// names it: the record has to be published first.
func (c *configPages) makeDKIM(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	domain, selector := strings.TrimSpace(r.PostFormValue("domain")), strings.TrimSpace(r.PostFormValue("selector"))
	what, err := readChange(r)
	if err == nil {
		what, err = c.newKey(r, domain, selector, what.Why)
	}
	if err != nil {
		c.dkimPage(w, r, a, err)
		return
	}
	what.By = a.Name
	a.Note(selector + "._domainkey." + domain)
	done, err := c.config.Apply(r.Context(), what)
	admin.NoteChange(a, done, what.Why)
	if err != nil {
		c.dkimPage(w, r, a, err)
		return
	}
	c.back(w, r, "/config/dkim-keys", "config-applied")
}

// newKey is the change that makes a key.
func (c *configPages) newKey(r *http.Request, domain, selector, why string) (change.Change, error) {
	key, err := dkim.GenerateKey(r.PostFormValue("kind"))
	if err != nil {
		return change.Change{}, err
	}
	if _, err := dkim.DNSRecord(selector, domain, key.Public()); err != nil {
		return change.Change{}, err
	}
	text, err := dkim.MarshalKey(key)
	if err != nil {
		return change.Change{}, err
	}
	d, err := c.readDraft(r)
	if err != nil {
		return change.Change{}, err
	}
	file := "dkim-" + strings.ToLower(selector+"-"+domain) + ".pem"
	err = d.doc.Insert(edit.Path{{Key: "dkim"}}, -1, edit.Table{
		{Key: "name", Value: selector + "-" + domain}, {Key: "domain", Value: domain}, {Key: "selector", Value: selector}, {Key: "key_file", Value: file},
	})
	what := d.change()
	what.Why = why
	what.Files = []change.FileText{{Path: file, Text: string(text)}}
	return what, err
}
