package pages

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
)

// heldMessage is what the page of one message shows.
type heldMessage struct {
	*quarantine.Detail
	// Reads says that the actor may see what the message says.
	Reads bool
	// One says that the actor sees mail to themselves only.
	One bool
	// Held, Freed say for whom it is held, and whether it was released for anybody.
	Held, Freed bool
	// Virus says that recipients cannot release it.
	Virus bool
	// Matches are the findings that are more than a note.
	Matches []mail.Finding
	// NeverDelay offers to keep greylisting from the sender.
	NeverDelay bool
	// SenderChoice is what can be done about the sender, nil for nothing.
	SenderChoice *senderChoice
}

func (q *quarantinePages) message(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	q.messagePage(w, r, a, r.PathValue("id"), nil)
}

// messagePage shows one message, above it what failed of an operation.
func (q *quarantinePages) messagePage(w http.ResponseWriter, r *http.Request, a *admin.Actor, text string, failed error) {
	row, err := q.visible(r.Context(), a, text)
	if err != nil {
		q.refuseHeld(w, r, a, err)
		return
	}
	d, err := q.q.Show(r.Context(), row.ID)
	if err != nil || !a.SeeDetail(d) {
		q.refuseHeld(w, r, a, errors.Join(err, quarantine.ErrNotFound))
		return
	}
	v := heldMessage{Detail: d, Reads: a.May(accounts.MailRead), One: a.Role.Scope() == accounts.Own, Virus: d.Threat == mail.ThreatVirus}
	for i := range d.Findings {
		if d.Findings[i].Result == mail.Match {
			v.Matches = append(v.Matches, d.Findings[i])
		}
	}
	for i := range d.Entries {
		v.Held = v.Held || d.Entries[i].State == quarantine.Held
		v.Freed = v.Freed || d.Entries[i].State != quarantine.Held
	}
	v.NeverDelay = a.SeesAll() && q.cfg.Greylist != nil && strings.Contains(d.Sender, "@")
	var recipients []string
	for i := range d.Entries {
		recipients = append(recipients, d.Entries[i].Key)
	}
	v.SenderChoice = q.senderChoice(a, d.Sender, recipients, "/quarantine/"+row.ID.String())
	title := d.Subject
	if title == "" {
		title = "(no subject)"
	}
	p := page{Template: "quarantine-message.html", Title: title, Data: v}
	if failed != nil {
		p.Status, p.Failed = quarantineStatus(failed), explain(failed)
	}
	q.show(w, r, a, p)
}

// refuseHeld answers where a message cannot be shown.
func (q *quarantinePages) refuseHeld(w http.ResponseWriter, r *http.Request, a *admin.Actor, err error) {
	if errors.Is(err, quarantine.ErrUnavailable) || !errors.Is(err, quarantine.ErrNotFound) {
		q.Refuse(w, r, a, http.StatusServiceUnavailable, explain(err))
		return
	}
	q.Refuse(w, r, a, http.StatusNotFound, "")
}

// frame is the HTML of a message, made harmless, for the frame of its page. What the
// filter should ever let through the sandbox and the policy stop: nothing runs, is
// sent or loaded there, and it has no origin.
func (q *quarantinePages) frame(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	row, err := q.visible(r.Context(), a, r.PathValue("id"))
	if err != nil {
		q.refuseHeld(w, r, a, err)
		return
	}
	source, cut, err := q.q.HTML(r.Context(), row.ID)
	if err != nil {
		q.refuseHeld(w, r, a, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", framePolicy)
	h.Set("X-Frame-Options", "SAMEORIGIN")
	_, _ = io.WriteString(w, frameHead+q.harmless.Sanitize(source))
	if cut {
		_, _ = io.WriteString(w, "<p><em>(cut here)</em></p>")
	}
}

// warn asks before a message is downloaded.
func (q *quarantinePages) warn(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	row, err := q.visible(r.Context(), a, r.PathValue("id"))
	if err != nil {
		q.refuseHeld(w, r, a, err)
		return
	}
	q.show(w, r, a, page{Template: "quarantine-download.html", Title: "Download the original?", Data: row})
}

// download sends the message byte for byte, in a way that no browser takes for a page.
func (q *quarantinePages) download(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	row, err := q.visible(r.Context(), a, r.PathValue("id"))
	if err != nil {
		q.refuseHeld(w, r, a, err)
		return
	}
	a.Note(row.ID.String())
	body, err := q.q.Body(r.Context(), row.ID)
	if err != nil {
		q.refuseHeld(w, r, a, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "message/rfc822")
	// The name is made of an ID of ours, never of anything in the message.
	h.Set("Content-Disposition", `attachment; filename="`+row.ID.String()+`.eml"`)
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	h.Set("Content-Length", strconv.FormatInt(body.Size(), 10))
	if _, err := io.Copy(w, io.NewSectionReader(body, 0, body.Size())); err != nil {
		q.cfg.Log.Warn("quarantined message was not sent whole", "id", row.ID.String(), "error", err)
	}
}

// depth is how deep a part lies in the message, for the tree of parts.
func depth(path string) int { return strings.Count(path, ".") }
