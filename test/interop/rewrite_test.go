package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/rewrite"
	"gatepost/internal/smtp"
	"gatepost/test/ledger"
	"gatepost/test/postfix"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// stage is one of the tables, as both read it.
type stage struct {
	plain, expressions string
}

// stages use what the manual pages of Postfix promise for each table.
func stages() map[string]stage {
	return map[string]stage{
		"canonical_maps":           {"anna@in.example anna.berg\n@old.example @in.example\nshort short.name@in.example\nx@loop.example x@loop.example\n", "/^(.*)\\.nick@(.*)$/ $1@$2\n"},
		"sender_canonical_maps":    {plain: "s@in.example sender@in.example\n"},
		"recipient_canonical_maps": {plain: "r@in.example recipient@in.example\n@wide.example collect@in.example\n"},
		"sender_bcc_maps":          {plain: "boss@in.example audit@store.example\n"},
		"recipient_bcc_maps":       {plain: "vip@in.example watch@in.example\n@watched.example watch2@store.example\n"},
		"virtual_alias_maps": {
			plain: "list@in.example a@in.example, b@out.example\n  c@out.example\nself@in.example self@in.example, d@out.example\nuser u@out.example\nuser+e ue@out.example\n" +
				"nest list, list2@in.example\nlist2@in.example b@out.example,e@out.example\n@all.example collect@in.example\n@dom.example @target.example\nwatch@in.example w@store.example\n" +
				"\"q q\"@in.example quoted@out.example\nmany+x@in.example exact@out.example\nmany@in.example m@out.example, n@out.example\nback@in.example self@in.example\n",
			expressions: "/^team-(.*)@in\\.example$/ $1@out.example, lead@out.example\n/^CASE@in/i upper@out.example\n!/@(in|out|store|target|old|wide|watched|all|dom|loop|masq|gen|deep\\.masq|isp)\\.example$/ foreign@out.example\n",
		},
		"smtp_generic_maps": {plain: "g@gen.example shop@isp.example\n@gen.example @isp.example\nshop@isp.example wrong@isp.example\n"},
	}
}

// envelopes are what is sent: the sender, the recipient, and addresses in the header.
func envelopes() [][2]string {
	senders := []string{"s@in.example", "boss@in.example", "x@deep.masq.example", "root@deep.masq.example", "anna+x@in.example", "g+e@gen.example", "other@gen.example", "x@out.example", "bob.nick@old.example"}
	to := []string{
		"anna@in.example", "anna+x@in.example", "ANNA@In.Example", "x@old.example", "x+y@old.example", "short@in.example", "short@out.example", "short+z@in.example", "bob.nick@out.example", "bob.nick+x@in.example",
		"s@in.example", "r@in.example", "r+e@in.example", "who@wide.example", "who+e@wide.example", "vip@in.example", "vip+x@in.example", "x+y@watched.example", "list@in.example", "list+n@in.example", "self@in.example", "self+x@in.example",
		"user@in.example", "user+e@in.example", "user+f@in.example", "user@out.example", "nest@in.example", "nest+q@in.example", "any@all.example", "any+e@all.example", "any@dom.example", "any+e@dom.example", "+e@dom.example",
		"watch@in.example", "\"q q\"@in.example", "\"q r\"@in.example", "many+x@in.example", "many+y@in.example", "many@in.example", "back@in.example", "back+b@in.example",
		"team-a@in.example", "team-a+b@in.example", "TEAM-A@in.example", "case@in.example", "CASE@in.example", "x@loop.example", "x@strange.example", "g@gen.example", "h@gen.example", "x@deep.masq.example", "mailer-daemon@in.example", "owner-list@in.example",
	}
	var all [][2]string
	for i := range max(len(to), len(senders)) {
		all = append(all, [2]string{senders[i%len(senders)], to[i%len(to)]})
	}
	return all
}

// TestRewritingIsPostfixs sends the same mail through a Postfix with the same
// tables, and compares envelope and header.
func TestRewritingIsPostfixs(t *testing.T) {
	end := sink.Start(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME"}})
	cfg := rewrite.Config{
		Masquerade: []string{"masq.example"}, MasqueradeExceptions: []string{"root"},
		Delimiters: "+", Origin: "in.example", Ours: func(domain string) bool { return domain == "in.example" },
	}
	params := map[string]string{
		"myorigin": "in.example", "recipient_delimiter": "+", "masquerade_domains": "masq.example", "masquerade_exceptions": "root",
		"local_header_rewrite_clients": "permit_mynetworks", "virtual_alias_domains": "", "append_at_myorigin": "yes",
	}
	dir := t.TempDir()
	for name, at := range map[string]*[]rewrite.Table{
		"canonical_maps": &cfg.Canonical, "sender_canonical_maps": &cfg.SenderCanonical, "recipient_canonical_maps": &cfg.RecipientCanonical, "sender_bcc_maps": &cfg.SenderBCC,
		"recipient_bcc_maps": &cfg.RecipientBCC, "virtual_alias_maps": &cfg.Virtual, "smtp_generic_maps": &cfg.Generic,
	} {
		s := stages()[name]
		for kind, text := range map[string]string{"texthash": s.plain, "regexp": s.expressions} {
			if text == "" {
				continue
			}
			path := filepath.Join(dir, name+"."+kind)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			*at = append(*at, rewrite.Table{File: path})
		}
		slices.SortFunc(*at, func(a, b rewrite.Table) int { return -strings.Compare(filepath.Ext(a.File), filepath.Ext(b.File)) })
		var maps []string
		for _, table := range *at {
			maps = append(maps, strings.TrimPrefix(filepath.Ext(table.File), ".")+":"+table.File)
		}
		params[name] = strings.Join(maps, ", ")
	}
	p := startPostfix(t, postfix.Config{Next: end.Addr, Params: params})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	engine, errs := rewrite.New(cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	c, _, err := wire.Hello(p.Addr, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, e := range envelopes() {
		from, to := e[0], e[1]
		m := ledger.Wrap(fmt.Sprintf("rewrite%d", i), []byte("text\r\n"), "Sender: \"A, B\" <"+from+">", "Cc: "+to+" (c),\r\n\tX <r@in.example>", "Reply-To: anna@in.example", "X-Note: anna@in.example")
		for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA"} {
			if r, err := c.Cmd("%s", line); err != nil || r.Code/100 > 3 {
				t.Fatalf("%s: %v, %v", line, r, err)
			}
		}
		if err := c.Send(string(wire.Stuff(m.Data)) + ".\r\n"); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Reply(); err != nil || r.Code != 250 {
			t.Fatalf("%s to %s: %v, %v", from, to, r, err)
		}
		arrived(t, end, m.ID)
		compare(t, engine, end, m, from, to)
	}
}

// compare holds what came through Postfix against what the engine says.
func compare(t *testing.T, engine *rewrite.Engine, end *sink.Sink, m ledger.Message, from, to string) {
	t.Helper()
	wantFrom, wantTo, wantHeader := rewritten(t, engine, m, from, to)
	var gotTo []string
	same := func() bool {
		gotTo = nil
		for _, got := range end.Mails() {
			if id, _ := ledger.Check(got.Data); id != m.ID {
				continue
			}
			gotTo = append(gotTo, got.To...)
		}
		for i := range gotTo {
			gotTo[i], _, _ = strings.Cut(strings.ToLower(gotTo[i]), "> ")
			gotTo[i] = strings.Trim(gotTo[i], "<>")
		}
		slices.Sort(gotTo)
		return slices.Equal(gotTo, wantTo)
	}
	if !end.Wait(patience/10, same) {
		t.Errorf("%s: Postfix sends to %q, we to %q", to, gotTo, wantTo)
	}
	got := arrived(t, end, m.ID)
	if sender, _, _ := strings.Cut(got.From, "> "); !strings.EqualFold(strings.Trim(sender, "<>"), wantFrom) {
		t.Errorf("%s: Postfix sends from %s, we from %s", from, sender, wantFrom)
	}
	for _, name := range []string{"Sender", "Cc", "Reply-To", "X-Note"} {
		ours, theirs := message.ParseHeader([]byte(wantHeader)).Get(name), message.ParseHeader([]byte(header(got)+"\r\n")).Get(name)
		if !strings.EqualFold(strings.Join(strings.Fields(ours), " "), strings.Join(strings.Fields(theirs), " ")) {
			t.Errorf("%s to %s: Postfix writes %s: %q, we %q", from, to, name, theirs, ours)
		}
	}
}

// rewritten is what the engine makes of a mail, from its arrival to its departure.
func rewritten(t *testing.T, engine *rewrite.Engine, m ledger.Message, from, to string) (sender string, recipients []string, head string) {
	t.Helper()
	ctx := t.Context()
	parse := func(s string) mail.Address {
		a, err := smtp.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	leave := func(a mail.Address) string {
		out, err := engine.Outgoing(ctx, a, nil)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ToLower(out.String())
	}
	s, err := engine.Sender(ctx, parse(from), nil)
	if err != nil {
		t.Fatal(err)
	}
	x, err := engine.Recipient(ctx, parse(to), nil)
	if err != nil {
		t.Fatal(err)
	}
	copies, err := engine.SenderCopies(ctx, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range slices.Concat(x.To, x.Copies, copies) {
		recipients = append(recipients, leave(a))
	}
	slices.Sort(recipients)
	section := m.Data[:strings.Index(string(m.Data), "\r\n\r\n")+4]
	h := message.ParseHeader(section)
	replace, err := engine.Headers(ctx, &mail.Session{Trusted: true}, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	edits, err := engine.OutgoingHeaders(ctx, h, mail.Edits{Replace: replace}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	at := int64(0)
	for _, r := range edits.Replace {
		fmt.Fprintf(&b, "%s%s", section[at:r.Start], r.Text)
		at = r.End
	}
	b.Write(section[at:])
	return leave(s), slices.Compact(recipients), b.String()
}
