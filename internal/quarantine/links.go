package quarantine

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
)

// LinkPath is where the links in digests point to, below the base URL; the token
// follows.
const LinkPath = "/q/"

// ErrLinkExpired says that a link of ours has had its time.
var ErrLinkExpired = errors.New("the link has expired")

// linkKeySetting is the key of the store's setting that holds the signing key.
const linkKeySetting = "quarantine.link_key"

// Link is what the page behind a link shows. Its texts are one printable line each.
type Link struct {
	Action    LinkAction
	Recipient string
	Sender    string
	Subject   string
	Received  string
	Size      string
	// Kind is why it is held, as recipients read it.
	Kind   string
	Threat mail.Threat
}

// LinkConfig is what Links needs. All but Life is required.
type LinkConfig struct {
	Quarantine *Quarantine
	// BaseURL is how people reach the pages: scheme, host and perhaps a port.
	BaseURL string
	// Life is how long a link is good; default 14 days.
	Life time.Duration
}

// Links makes and follows the signed links in digests. The key is made once and
// shared by all nodes of a store.
type Links struct {
	q    *Quarantine
	base string
	life time.Duration
	key  atomic.Pointer[signer]
}

// NewLinks checks the configuration. The store is asked for the key when the
// first link is made or followed.
func NewLinks(cfg LinkConfig) (*Links, error) {
	if cfg.Quarantine == nil {
		return nil, errors.New("make links: no quarantine")
	}
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("make links: base URL %q is not http(s)://HOST", cfg.BaseURL)
	}
	return &Links{q: cfg.Quarantine, base: strings.TrimSuffix(u.String(), "/"), life: orDefault(cfg.Life, 14*24*time.Hour)}, nil
}

// signer returns the signer with the shared key.
func (l *Links) signer(ctx context.Context) (*signer, error) {
	if s := l.key.Load(); s != nil {
		return s, nil
	}
	// Of two nodes that make a key at the same time both get the one that came
	// first.
	key, err := l.q.cfg.Store.InitSetting(ctx, linkKeySetting, newLinkKey())
	if err != nil {
		return nil, known(err)
	}
	if len(key) < linkKeySize {
		return nil, fmt.Errorf("read setting %s: it has %d bytes, want %d", linkKeySetting, len(key), linkKeySize)
	}
	s := &signer{key: key}
	l.key.Store(s)
	return s, nil
}

// address returns the link for an action on a message.
func (l *Links) address(s *signer, t Token) string { return l.base + LinkPath + s.sign(t) }

// Look tells what a link would do, and that it still can. It changes nothing.
// Errors: ErrBadLink, ErrLinkExpired, ErrNotFound, ErrReleased, ErrDeleted,
// ErrForbidden, ErrUnavailable.
func (l *Links) Look(ctx context.Context, token string) (*Link, error) {
	_, link, err := l.open(ctx, token)
	return link, err
}

// Follow does what the link says, on behalf of its recipient. Its errors are
// those of Look, and ErrBusy.
func (l *Links) Follow(ctx context.Context, token string) (*Link, error) {
	t, link, err := l.open(ctx, token)
	if err != nil {
		return nil, err
	}
	r := Request{IDs: []mail.ID{t.Message}, Recipients: []string{t.Recipient}, By: link.Recipient, Role: RoleRecipient}
	var res Result
	switch t.Action {
	case LinkRelease:
		res = l.q.Release(ctx, r)[0]
	case LinkDelete:
		res = l.q.Delete(ctx, r)[0]
	case LinkAsk:
		res = l.q.Ask(ctx, r)[0]
	default:
		return nil, ErrForbidden // settings are no message's
	}
	// What could only not be noted was done all the same.
	if res.Err != nil && res.ReleasedAs.IsZero() {
		return nil, res.Err
	}
	return link, nil
}

// open checks a token and finds the entry that it means. Nothing is asked of the
// store about a token that is not ours.
func (l *Links) open(ctx context.Context, token string) (Token, *Link, error) {
	s, err := l.signer(ctx)
	if err != nil {
		return Token{}, nil, err
	}
	t, err := s.verify(token)
	if err != nil {
		return t, nil, err
	}
	if !time.Now().Before(t.Expires) {
		return t, nil, ErrLinkExpired
	}
	if t.Action == LinkSettings {
		return t, &Link{Action: t.Action, Recipient: t.Recipient}, nil
	}
	rec, err := l.q.record(ctx, t.Message)
	if err != nil {
		return t, nil, err
	}
	chosen, err := rec.choose(Request{Recipients: []string{t.Recipient}}, Held)
	if err == nil && t.Action == LinkRelease {
		err = rec.mayRelease(RoleRecipient)
	}
	if err != nil {
		return t, nil, err
	}
	return t, &Link{
		Action: t.Action, Recipient: chosen[0].Recipient, Sender: rec.Sender, Subject: rec.Subject,
		Received: rec.Received.Local().Format("2006-01-02 15:04 MST"), Size: sizeText(rec.Size),
		Kind: kindText(chosen[0].Threat), Threat: chosen[0].Threat,
	}, nil
}

func sizeText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
