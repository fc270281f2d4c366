package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/store"
)

// Submitter queues mail that Gatepost writes itself.
type Submitter interface {
	// SubmitReport queues a message from the null sender. Once it returns nil the
	// message is durable.
	SubmitReport(ctx context.Context, to mail.Address, report io.Reader) error
}

// DigestConfig is what Digests need. All but Location, Node and Log are required.
type DigestConfig struct {
	Links     *Links
	Submitter Submitter
	// Hour and Minute are the local time of day at which digests are sent.
	Hour, Minute int
	// Location is what local means; default time.Local.
	Location *time.Location
	// From is the address in the From field.
	From mail.Address
	// Hostname is the domain of Message-ID and List-Id.
	Hostname string
	// Ours reports whether the recipients of a configured domain are people who
	// get digests: those of other domains must never be sent our links.
	Ours func(domain string) bool
	Log  *slog.Logger // default: discard
	// MaxItems is how many messages one digest lists; default 100.
	MaxItems int
}

// Digests sends each recipient one mail a day about what is newly held, or as often
// and at the hour that they chose.
type Digests struct {
	cfg  DigestConfig
	q    *Quarantine
	me   string // this process, in leases
	loop loop

	sender atomic.Pointer[sender]
}

// Times of the digests.
const (
	// digestLag is how long after the time of day a run begins. It takes in what
	// was stored before that time, which by then is visible whatever the clocks of
	// other nodes say and however long a transaction takes.
	digestLag = 15 * time.Second
	// digestLease is how long a node that is silent keeps a run.
	digestLease = 5 * time.Minute
	// digestRetry is when something that did not work is tried again.
	digestRetry = time.Minute
	// firstDigest is how far back the first digest of all looks.
	firstDigest = 24 * time.Hour
)

// NewDigests checks the configuration. Nothing runs before Start.
func NewDigests(cfg DigestConfig) (*Digests, error) {
	switch {
	case cfg.Links == nil || cfg.Submitter == nil || cfg.Ours == nil:
		return nil, errors.New("make digests: a part is missing")
	case cfg.Hour < 0 || cfg.Hour > 23 || cfg.Minute < 0 || cfg.Minute > 59:
		return nil, fmt.Errorf("make digests: %02d:%02d is no time of day", cfg.Hour, cfg.Minute)
	case cfg.From.IsNull() || cfg.Hostname == "":
		return nil, errors.New("make digests: from and hostname are required")
	}
	if cfg.Location == nil {
		cfg.Location = time.Local
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.MaxItems = min(orDefault(cfg.MaxItems, 100), maxPage)
	d := &Digests{cfg: cfg, q: cfg.Links.q, me: mail.NewID().String()}
	d.Identify(cfg.From, cfg.Hostname)
	return d, nil
}

// sender is in whose name digests are written.
type sender struct {
	from     mail.Address
	hostname string
}

// Identify changes in whose name digests are written, see DigestConfig.From and
// DigestConfig.Hostname.
func (d *Digests) Identify(from mail.Address, hostname string) {
	d.sender.Store(&sender{from: from, hostname: hostname})
}

// Start begins to send digests. One that is due today and was sent by nobody is
// sent at once.
func (d *Digests) Start(ctx context.Context) {
	// Its own context: the loop ends by Stop, not with the call that began it.
	d.loop.start(context.WithoutCancel(ctx), d.run)
}

// Stop ends what Start began; it waits until ctx ends for the mail that is being
// written. Another node, or the next start, goes on where it stopped.
func (d *Digests) Stop(ctx context.Context) error { return d.loop.stop(ctx) }

func (d *Digests) run(ctx context.Context) {
	for {
		next, err := d.work(ctx, time.Now())
		if ctx.Err() != nil {
			return
		}
		own, ownErr := d.workOwn(ctx, time.Now())
		if ctx.Err() != nil {
			return
		}
		if err = errors.Join(err, ownErr); own.Before(next) {
			next = own
		}
		if err != nil {
			d.cfg.Log.Warn("digests could not be sent, trying again", "error", err, "in", digestRetry)
			next = time.Now().Add(digestRetry)
		}
		if !wait(ctx, time.Until(next)) {
			return
		}
	}
}

// due is the last moment at which digests were due, and next the one after it.
func (d *Digests) due(now time.Time) (last, next time.Time) {
	at := func(days int) time.Time {
		y, m, day := now.In(d.cfg.Location).Date()
		// A time that a change of the clocks skips is an hour later that day.
		return time.Date(y, m, day+days, d.cfg.Hour, d.cfg.Minute, 0, 0, d.cfg.Location)
	}
	if today := at(0); !today.After(now) {
		return today, at(1)
	}
	return at(-1), at(0)
}

// work does what is to be done now and returns when there is more. An error is
// worth another try.
func (d *Digests) work(ctx context.Context, now time.Time) (time.Time, error) {
	for {
		last, next := d.due(now.Add(-digestLag))
		r, err := d.claim(ctx, last)
		switch {
		case errors.Is(err, errOthers):
			// Whoever works on it may die on the way.
			return time.Now().Add(digestRetry), nil
		case err != nil:
			return time.Time{}, err
		case r == nil:
			return next.Add(digestLag), nil
		}
		err = d.send(ctx, r)
		switch {
		case errors.Is(err, errOthers):
			return time.Now().Add(digestRetry), nil
		case err != nil:
			// The next one, here or elsewhere, need not wait for the lease to end.
			return time.Time{}, errors.Join(err, d.giveUp(context.WithoutCancel(ctx), r))
		}
		d.cfg.Log.Info("digests sent", "day", r.state.Day, "mails", r.mails)
	}
}

// send writes to recipient after recipient.
func (d *Digests) send(ctx context.Context, r *digestRun) error {
	for {
		keys, err := d.q.cfg.Store.QuarantineRecipients(ctx, r.state.Since, r.state.Until, r.state.After, 200)
		if err != nil {
			return known(err)
		}
		for _, key := range keys {
			if err := d.next(ctx, r, key); err != nil {
				return err
			}
		}
		if len(keys) == 0 {
			return d.finish(ctx, r)
		}
	}
}

// maxTries is how often the mail for one recipient is tried before the others
// come first.
const maxTries = 3

// next writes to one recipient. It is noted before, so that no two nodes write to
// the same, and the next one notes that it was done.
func (d *Digests) next(ctx context.Context, r *digestRun, key string) error {
	if r.state.Sending == key {
		r.state.Tries++
	} else {
		r.state.Sending, r.state.Tries = key, 1
	}
	if err := d.store(ctx, r); err != nil {
		return err
	}
	otherwise, err := d.choseOtherwise(ctx, r, key)
	if err != nil {
		return err
	}
	var m *digestMail
	if !otherwise {
		if m, err = d.mailFor(ctx, r, key); err != nil {
			return err
		}
	}
	if m != nil {
		err = d.submit(ctx, m)
	}
	switch {
	case err != nil && ctx.Err() == nil && r.state.Tries >= maxTries:
		d.cfg.Log.Error("digest cannot be sent", "recipient", key, "day", r.state.Day, "error", err)
	case err != nil:
		return err
	case m != nil:
		r.mails++
	}
	r.state.After, r.state.Sending, r.state.Tries = key, "", 0
	return nil
}

func (d *Digests) submit(ctx context.Context, m *digestMail) error {
	b, err := m.write()
	if err != nil {
		return err
	}
	if err := d.cfg.Submitter.SubmitReport(ctx, m.To, bytes.NewReader(b)); err != nil {
		return fmt.Errorf("send digest to %s: %w", m.To, err)
	}
	d.cfg.Log.Debug("digest sent", "recipient", m.To.String(), "day", m.Day, "messages", len(m.Items))
	return nil
}

// mailFor is the digest of one recipient; nil where nothing is left to tell.
func (d *Digests) mailFor(ctx context.Context, r *digestRun, key string) (*digestMail, error) {
	signer, err := d.cfg.Links.signer(ctx)
	if err != nil {
		return nil, err
	}
	found, more, err := d.q.cfg.Store.FindQuarantined(ctx, store.QuarantineQuery{
		Recipients: []string{key}, State: store.QuarantineHeld, StoredSince: r.state.Since, StoredUntil: r.state.Until, Limit: d.cfg.MaxItems,
	})
	if err != nil {
		return nil, known(err)
	}
	who := d.sender.Load()
	m := &digestMail{
		From: who.from, Hostname: who.hostname, Date: time.Now(), Day: r.state.Day, More: more,
		Days: max(1, int(d.q.cfg.Keep/(24*time.Hour))),
	}
	for i := range found {
		for j := range found[i].Entries {
			e := &found[i].Entries[j]
			if strings.EqualFold(e.Recipient.Key(), key) && d.cfg.Ours(e.Domain) {
				m.To = e.Recipient
				m.Items = append(m.Items, d.item(signer, &found[i], e))
			}
		}
	}
	if len(m.Items) == 0 {
		return nil, nil
	}
	m.Settings = d.settingsLink(signer, m.To)
	return m, nil
}

// item is one message in a digest. What administrators release has a link to ask for it.
func (d *Digests) item(s *signer, m *store.QuarantinedMessage, e *store.QuarantineEntry) digestItem {
	row := rowOf(m)
	item := digestItem{
		Received: m.Received.In(d.cfg.Location).Format("2006-01-02 15:04"),
		Sender:   message.SafeText(row.Sender, maxDigestSender), Subject: message.SafeText(row.Subject, maxDigestSubject), Kind: kindText(e.Threat),
	}
	t := Token{Message: m.ID, Recipient: e.Recipient.Key(), Expires: time.Now().Add(d.cfg.Links.life)}
	if (&record{Row: row, envelope: &mail.Envelope{}}).mayRelease(RoleRecipient) == nil {
		t.Action = LinkRelease
		item.Release = d.cfg.Links.address(s, t)
	} else {
		t.Action = LinkAsk
		item.Ask = d.cfg.Links.address(s, t)
	}
	t.Action = LinkDelete
	item.Delete = d.cfg.Links.address(s, t)
	return item
}
