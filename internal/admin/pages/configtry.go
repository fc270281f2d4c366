package pages

import (
	"io"
	"net/http"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/config/change"
)

// tryForm is an envelope and a message to try a configuration with.
type tryForm struct {
	admin.FlowQueryText
	Message   string
	Listeners []string
	// Draft is there where another configuration is tried than the one in use.
	Draft  *draft
	Result string
}

func (c *configPages) showTry(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	c.tryPage(w, r, a, tryForm{FlowQueryText: admin.FlowQueryText{Client: "198.51.100.7", Helo: "client.example"}}, nil)
}

func (c *configPages) tryPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, f tryForm, failed error) {
	d, err := c.readDraft(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	f.Listeners = names(d.doc, "listener")
	if d.Changed() {
		f.Draft = d
	}
	p := page{Template: "config-try.html", Title: "Try it", Data: f}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	c.show(w, r, a, p)
}

// try goes through the flows with what the form says. From a review it comes without an
// envelope: then there is the form to fill in.
func (c *configPages) try(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if r.PostFormValue("client") == "" && r.PostFormValue("do") != "try" {
		c.showTry(w, r, a)
		return
	}
	f := tryForm{FlowQueryText: admin.FlowQueryText{
		Listener: r.PostFormValue("listener"), Client: strings.TrimSpace(r.PostFormValue("client")), Helo: strings.TrimSpace(r.PostFormValue("helo")),
		User: strings.TrimSpace(r.PostFormValue("user")), From: strings.TrimSpace(r.PostFormValue("from")), To: strings.TrimSpace(r.PostFormValue("to")),
	}, Message: r.PostFormValue("message")}
	q, err := f.Parse()
	if err == nil && f.Message != "" && f.To == "" {
		err = &change.BadError{Text: "a message needs a recipient, who decides which flow it goes through"}
	}
	if err != nil {
		c.tryPage(w, r, a, f, err)
		return
	}
	d, err := c.readDraft(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	var what change.Change
	if d.Changed() {
		what = d.change()
	}
	var body io.Reader
	if f.Message != "" {
		// Forms send CRLF, as mail does.
		body = strings.NewReader(strings.TrimRight(f.Message, "\r\n") + "\r\n")
	}
	x, err := c.config.Try(r.Context(), what, q, body)
	if err != nil {
		c.tryPage(w, r, a, f, err)
		return
	}
	if t, ok := x.(interface{ Text() string }); ok {
		f.Result = t.Text()
	}
	c.tryPage(w, r, a, f, nil)
}
