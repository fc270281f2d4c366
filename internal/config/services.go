package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"gatepost/internal/message/notice"
)

// scanDefaults sets what depends on other keys, for everything about content.
func (v *validator) scanDefaults() {
	c := v.cfg
	if c.Store.Node == "" && !v.places[&c.Store.Node].bad {
		c.Store.Node = Name(c.Hostname)
	}
	if !v.isSet(&c.Limits.MaxScanSize) {
		c.Limits.MaxScanSize = c.Limits.MaxMessageSize
	}
	if c.Limits.ScanTemp == "" && c.DataDir != "" {
		c.Limits.ScanTemp = Path(filepath.Join(string(c.DataDir), "tmp"))
	}
	if d := c.Quarantine.Digest; d != nil && d.From.IsNull() && !v.places[&d.From].bad {
		d.From = c.Postmaster
	}
	if c.TLSReports.From.IsNull() && !v.places[&c.TLSReports.From].bad {
		c.TLSReports.From = c.Postmaster
	}
	if c.Quarantine.NoticeFrom.IsNull() && !v.places[&c.Quarantine.NoticeFrom].bad {
		c.Quarantine.NoticeFrom = c.Postmaster
	}
	if c.SRS.Domain == "" && !v.places[&c.SRS.Domain].bad {
		c.SRS.Domain = c.Hostname
	}
	for i := range c.Flows {
		for j := range c.Flows[i].Blocks {
			b := &c.Flows[i].Blocks[j]
			if b.Acts != nil && b.Acts.OnMatch == "" {
				b.Acts.OnMatch = b.Acts.Action
			}
			kind := findBlock(c.Flows[i].Stage, b.Use)
			switch {
			case kind == nil || v.isSet(&b.Timeout):
			case b.Use == "clamav":
				b.Timeout = c.ClamAV.Timeout
			default:
				b.Timeout = kind.timeout
			}
		}
	}
}

// checkStore wants a database that there is an implementation for. The URL may
// hold a password, so nothing of it is repeated.
func (v *validator) checkStore() {
	s := &v.cfg.Store
	if s.URL == "" {
		if s.PasswordFile != "" {
			v.report(ruleUnusedKey, &s.PasswordFile, "is set, but there is no url: SQLite has no password", "set url, or take it out")
		}
		return
	}
	hint := `write "postgres://user@host/database", or "" for SQLite in data_dir`
	scheme, _, ok := strings.Cut(s.URL, "://")
	if ok && scheme != "postgres" && scheme != "postgresql" {
		v.report(ruleBadURL, &s.URL, fmt.Sprintf("there is no store for %q", shorten(scheme)), hint)
		return
	}
	u, err := url.Parse(s.URL)
	switch {
	case !ok || err != nil:
		v.report(ruleBadURL, &s.URL, "is no URL of a database", hint)
		return
	case u.Host == "" && !u.Query().Has("host"):
		v.report(ruleBadURL, &s.URL, "names no host", hint)
	case u.Fragment != "" || strings.Contains(strings.TrimPrefix(u.Path, "/"), "/"):
		v.report(ruleBadURL, &s.URL, "is no URL of a database", hint)
	}
	_, hasPassword := u.User.Password()
	hasPassword = hasPassword || u.Query().Has("password")
	switch {
	case hasPassword && s.PasswordFile != "":
		v.report(ruleUnusedKey, &s.PasswordFile, "is set, but url has a password already", "take one of them out")
	case hasPassword:
		v.warn(ruleWarnPassword, &s.URL, "has a password in it, and everybody who reads this file knows it", "put it into the first line of a file and name that in password_file")
	}
	v.secret(&s.PasswordFile, "password")
}

// checkQuarantine wants that the links in digests lead somewhere.
func (v *validator) checkQuarantine() {
	q := &v.cfg.Quarantine
	v.checkNotice(&q.NoticeFile)
	if q.Digest == nil {
		return
	}
	a := &v.cfg.Admin
	switch {
	case !v.ok(&a.BaseURL, &a.Listen):
	case a.BaseURL == "":
		v.report(ruleDigest, &q.Digest, "digests have links, but [admin] base_url does not say where they lead", `write base_url = "https://gw.example.com" in [admin]`)
	case a.Listen.IsZero():
		v.warn(ruleWarnNoAnswer, &q.Digest, "digests have links, but [admin] listen is off: this node does not answer them", "set listen, unless another node of the same store answers at base_url")
	}
}

// checkNotice wants a template that works.
func (v *validator) checkNotice(path *Path) {
	if *path == "" {
		return
	}
	text, ok := v.read(path)
	if !ok {
		return
	}
	if _, err := notice.Parse(string(text)); err != nil {
		v.report(ruleBadScript, path, fmt.Sprintf("%s is no template: %v", *path, err), "docs/pop3.md says what a notice can tell")
	}
}

// checkLearning wants room between what is learned as ham and as spam.
func (v *validator) checkLearning() {
	a := v.cfg.Bayes.Autolearn
	if a == nil || !v.ok(&a.SpamOver, &a.HamUnder) {
		return
	}
	if a.SpamOver <= a.HamUnder {
		v.report(ruleThresholds, &a.SpamOver, fmt.Sprintf("is %s, and ham_under is %s: the same message would be learned as spam and as ham", number(a.SpamOver), number(a.HamUnder)), "make spam_over the greater one")
	}
}
