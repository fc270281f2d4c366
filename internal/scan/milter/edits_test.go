package milter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// edited scans a message with a milter that makes these edits, and returns the
// message as they make it, and the findings.
func edited(t *testing.T, msg string, packets ...string) (string, []mail.Finding) {
	t.Helper()
	var after string
	var found []mail.Finding
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(cmdEOM, append(packets, "c")...))
		defer f.stop()
		in := input(t, msg)
		var err error
		if found, err = f.scanner(t, Config{}).Scan(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		// They have to outlive a restart.
		b, err := json.Marshal(found)
		if err != nil {
			t.Fatal(err)
		}
		var again []mail.Finding
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatal(err)
		}
		prepend, cut := Edits(again, in.Header)
		env := &mail.Envelope{}
		env.Edits.Cut = cut
		for _, p := range prepend {
			env.Edits.Prepend = append(env.Edits.Prepend, p+"\r\n"...)
		}
		var b2 strings.Builder
		if _, err := message.NewContent(mail.Message{Envelope: env, Body: in.Message.Body}).Reader().WriteTo(&b2); err != nil {
			t.Fatal(err)
		}
		after = b2.String()
	})
	return after, found
}

func TestEditsOfTheHeaderSection(t *testing.T) {
	const from, a1, a2, a3, end = "From: a@b.example\r\n", "X-A: 1\r\n", "x-a: 2\r\n\tfolded\r\n", "X-A: 3\r\n", "\r\nbody\r\n"
	const msg = from + a1 + a2 + a3 + end
	change := func(n uint32, name, value string) string { return "m" + number(n) + name + "\x00" + value + "\x00" }
	insert := func(n uint32, name, value string) string { return "i" + number(n) + name + "\x00" + value + "\x00" }
	for name, c := range map[string]struct {
		packets []string
		want    string
	}{
		"none":                       {nil, msg},
		"one is added":               {[]string{"hX-B\x00b\x00"}, "X-B: b\r\n" + msg},
		"two are added":              {[]string{"hX-B\x00b\x00", "hX-C\x00c\x00"}, "X-B: b\r\nX-C: c\r\n" + msg},
		"two go on top":              {[]string{insert(0, "X-B", "b"), insert(0, "X-C", "c")}, "X-C: c\r\nX-B: b\r\n" + msg},
		"on top and behind":          {[]string{"hX-B\x00b\x00", insert(1, "X-C", "c")}, "X-C: c\r\nX-B: b\r\n" + msg},
		"with a space of its own":    {[]string{"hX-B\x00 b\x00"}, "X-B: b\r\n" + msg},
		"the second changes":         {[]string{change(2, "X-A", "two")}, "X-A: two\r\n" + from + a1 + a3 + end},
		"place 0 is the first":       {[]string{change(0, "X-A", "one")}, "X-A: one\r\n" + from + a2 + a3 + end},
		"the third goes":             {[]string{change(3, "X-A", "")}, from + a1 + a2 + end},
		"all go, from the first":     {[]string{change(1, "X-A", ""), change(2, "X-A", ""), change(3, "X-A", "")}, from + end},
		"all go, from the last":      {[]string{change(3, "X-A", ""), change(2, "X-A", ""), change(1, "X-A", "")}, from + end},
		"the last word counts":       {[]string{change(1, "X-A", "x"), change(1, "X-A", "y")}, "X-A: y\r\n" + from + a2 + a3 + end},
		"changed and then gone":      {[]string{change(1, "X-A", "x"), change(1, "X-A", "")}, from + a2 + a3 + end},
		"a change behind the last":   {[]string{change(4, "X-A", "4")}, "X-A: 4\r\n" + msg},
		"nothing goes":               {[]string{change(4, "X-A", "")}, msg},
		"one that is not there":      {[]string{change(1, "X-B", "b")}, "X-B: b\r\n" + msg},
		"the first body of it":       {[]string{change(1, "From", "c@d.example")}, "From: c@d.example\r\n" + a1 + a2 + a3 + end},
		"folded":                     {[]string{"hX-B\x00b\n\tc\r\n d\x00"}, "X-B: b\r\n\tc\r\n d\r\n" + msg},
		"folded without white space": {[]string{"hX-B\x00b\nX-Evil: c\x00"}, "X-B: b\r\n\tX-Evil: c\r\n" + msg},
		"an injected end":            {[]string{"hX-B\x00b\r\n\r\n<html>\x00"}, "X-B: b\r\n\t<html>\r\n" + msg},
		"bare CR":                    {[]string{"hX-B\x00b\rX-Evil: c\x00"}, "X-B: b\r\n\tX-Evil: c\r\n" + msg},
		"control characters":         {[]string{"hX-B\x00b\x01\x7f\x00"}, "X-B: b??\r\n" + msg},
		"UTF-8":                      {[]string{"hX-B\x00grün\x00"}, "X-B: =?utf-8?q?gr=C3=BCn?=\r\n" + msg},
		"8 bit":                      {[]string{"hX-B\x00gr\xfcn\x00"}, "X-B: gr?n\r\n" + msg},
		"no value":                   {[]string{"hX-B\x00\x00"}, "X-B: \r\n" + msg},
		"a long line":                {[]string{"hX-B\x00" + strings.Repeat("x", 900) + " " + strings.Repeat("y", 900) + "\x00"}, "X-B: " + strings.Repeat("x", 900) + "\r\n " + strings.Repeat("y", 900) + "\r\n" + msg},
		"results of another":         {[]string{"hAuthentication-Results\x00dkim.example; dkim=pass header.d=gw.example\x00"}, "Authentication-Results: dkim.example; dkim=pass header.d=gw.example\r\n" + msg},
		"a place too high":           {[]string{change(1<<31, "X-A", ""), insert(1<<31, "X-B", "b")}, msg},
	} {
		t.Run(name, func(t *testing.T) {
			if got, found := edited(t, msg, c.packets...); got != c.want {
				t.Errorf("%q\nwant %q\nof %+v", got, c.want, found)
			}
		})
	}
}

func TestEditsThatAreNotMade(t *testing.T) {
	for name, packet := range map[string]string{
		"how the body is read":      "hContent-Type\x00text/html\x00",
		"how it is encoded":         "m" + number(1) + "content-transfer-encoding\x00base64\x00",
		"that it is MIME":           "m" + number(1) + "MIME-Version\x00\x00",
		"our marks":                 "hX-Gatepost-Verdict\x00clean\x00",
		"our marks go":              "m" + number(1) + "X-GATEPOST-Score\x00\x00",
		"our results":               "hAuthentication-Results\x00gw.example; dkim=pass\x00",
		"our results in capitals":   "hauthentication-results\x00 GW.Example 1; dkim=pass\x00",
		"our results in a comment":  "hAuthentication-Results\x00(;) gw(x).example; dkim=pass\x00",
		"our results in quotes":     "hAuthentication-Results\x00\"gw.example\"; dkim=pass\x00",
		"our results in escapes":    "hAuthentication-Results\x00g\\w.example; dkim=pass\x00",
		"our results without end":   "hAuthentication-Results\x00gw.example\x00",
		"our results on a new line": "hAuthentication-Results\x00\n gw.example; none\x00",
		"our results with a dot":    "hAuthentication-Results\x00gw.example.; none\x00",
		"the hops":                  "m" + number(1) + "Received\x00\x00",
		"no name":                   "h\x00x\x00",
		"a colon in the name":       "hX-A: b\r\nX-B\x00x\x00",
		"a line end in the name":    "hX-A\nX-B\x00x\x00",
		"a space in the name":       "hX A\x00x\x00",
		"8 bit in the name":         "hX-Ä\x00x\x00",
		"a name without end":        "h" + strings.Repeat("x", 101) + "\x00x\x00",
		"a name longer than a line": "h" + strings.Repeat("x", 1001) + "\x00x\x00",
		"a value that is too long":  "hX-A\x00" + strings.Repeat("x ", 10_000) + "\x00",
		"a word that is too long":   "hX-A\x00" + strings.Repeat("x", 1000) + "\x00",
		"too long when encoded":     "hX-A\x00" + strings.Repeat("ä ", 5000) + "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			msg := "Content-Transfer-Encoding: 7bit\r\nMIME-Version: 1.0\r\nReceived: x\r\nX-Gatepost-Score: 1\r\n\r\nbody\r\n"
			got, found := edited(t, msg, packet)
			if got != msg || summary(found) != "clean refused-edit" {
				t.Errorf("%q, %+v", got, found)
			}
		})
	}
}

func TestEditsAreBounded(t *testing.T) {
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("hX-%d\x00v\x00", i))
	}
	_, found := edited(t, plain, many...)
	if n := strings.Count(summary(found), "add-header"); n != 50 || len(found) != 100 {
		t.Errorf("%d of %d", n, len(found))
	}
	large := slices.Repeat([]string{"hX-A\x00" + strings.Repeat("v ", 8000) + "\x00"}, 10)
	after, found := edited(t, plain, large...)
	if n := strings.Count(summary(found), "add-header"); n != 4 || len(after) > 70_000 {
		t.Errorf("%d, %d bytes", n, len(after))
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(cmdEOM, slices.Repeat([]string{"hX\x00v\x00"}, maxWishes+1)...))
		defer f.stop()
		if found, err := f.scanner(t, Config{}).Scan(t.Context(), input(t, plain)); err == nil || len(found) > 0 {
			t.Errorf("%d, %v", len(found), err)
		}
	})
}

// A milter counts the fields that it was shown; what the envelope cuts it was not.
func TestPlacesAreThoseThatTheMilterSaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(cmdEOM, "m"+number(1)+"X-A\x00\x00", "c"))
		defer f.stop()
		in := input(t, "X-A: forged\r\nX-A: one\r\nX-A: two\r\n\r\n")
		in.Message.Envelope.Edits.Cut = []mail.Span{in.Header.Fields()[0].Span}
		found, err := f.scanner(t, Config{}).Scan(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if _, cut := Edits(found, in.Header); len(cut) != 1 || cut[0] != in.Header.Fields()[1].Span {
			t.Errorf("%v of %+v", cut, found)
		}
	})
}

func TestFindingsThatAreNoEdits(t *testing.T) {
	header := message.ParseHeader([]byte("X-A: 1\r\n\r\n"))
	value := func(v string) []mail.Property { return []mail.Property{{Name: "value", Value: v}} }
	index := func(v string) []mail.Property { return []mail.Property{{Name: "index", Value: v}} }
	for name, f := range map[string]mail.Finding{
		"of another module":   {Module: "icap", Symbol: symbolAdd, Result: mail.Clean, Name: "X-B", Properties: value(`"b"`)},
		"a match":             {Module: use, Symbol: symbolAdd, Result: mail.Match, Name: "X-B", Properties: value(`"b"`)},
		"without a value":     {Module: use, Symbol: symbolAdd, Result: mail.Clean, Name: "X-B"},
		"without quotes":      {Module: use, Symbol: symbolAdd, Result: mail.Clean, Name: "X-B", Properties: value(`b`)},
		"of our own":          {Module: use, Symbol: symbolAdd, Result: mail.Clean, Name: "X-Gatepost-Score", Properties: value(`"b"`)},
		"without a place":     {Module: use, Symbol: symbolDelete, Result: mail.Clean, Name: "X-A"},
		"with an odd place":   {Module: use, Symbol: symbolDelete, Result: mail.Clean, Name: "X-A", Properties: index("one")},
		"with place 0":        {Module: use, Symbol: symbolDelete, Result: mail.Clean, Name: "X-A", Properties: index("0")},
		"with place -1":       {Module: use, Symbol: symbolDelete, Result: mail.Clean, Name: "X-A", Properties: index("-1")},
		"with a place beyond": {Module: use, Symbol: symbolDelete, Result: mail.Clean, Name: "X-A", Properties: index("2")},
		"a note":              {Module: use, Symbol: "add-recipient", Result: mail.Clean},
	} {
		if prepend, cut := Edits([]mail.Finding{f}, header); len(prepend)+len(cut) > 0 {
			t.Errorf("%s: %q, %v", name, prepend, cut)
		}
	}
}

// Whatever a milter says, the fields that come of it are whole, safe and no others.
func FuzzEdits(f *testing.F) {
	f.Add("X-B", "b\r\n\r\nevil", uint32(1), byte('h'))
	f.Add("X-A", "", uint32(2), byte('m'))
	f.Add("Subject", "grün \x00 \u202e\n\n x", uint32(0), byte('i'))
	f.Add("X-C", strings.Repeat("word ", 500), uint32(0), byte('h'))
	const section = "X-A: 1\r\nX-A: 2\r\nSubject: s\r\n\r\n"
	f.Fuzz(func(t *testing.T, name, value string, index uint32, kind byte) {
		header := message.ParseHeader([]byte(section))
		data := name + "\x00" + value + "\x00"
		if kind != asksAdd {
			data = number(index) + data
		}
		w, ok, err := wishOf(packet{code: kind, data: []byte(data)})
		if err != nil || !ok || w.name == "" {
			return
		}
		talk := newTalk(&Scanner{cfg: Config{Hostname: "gw.example", MaxEdits: 50, MaxEditBytes: 64 << 10}}, input(t, section), nil)
		talk.take([]wish{w})
		prepend, cut := Edits(talk.findings, header)
		if len(prepend) > 1 || len(cut) > 1 {
			t.Fatalf("%q, %v", prepend, cut)
		}
		for _, p := range prepend {
			fields := message.ParseHeader([]byte(p + "\r\n\r\n")).Fields()
			if len(fields) != 1 || !fields[0].Is(w.name) || fields[0].Raw() != p+"\r\n" || refusedField(fields[0].Name) != "" {
				t.Fatalf("%q of %q: %q", p, name, value)
			}
			for l := range strings.SplitSeq(p, "\r\n") {
				if len(l) > maxLine || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }) {
					t.Fatalf("line %q", l)
				}
			}
			if again, _ := cleanValue(w.name, fields[0].Value()); strings.Contains(again, "\n") && len(again) < 900 {
				t.Fatalf("%q", again)
			}
		}
	})
}

// Whatever comes over the connection, the conversation ends without a crash.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(string(pack("c")) + string(pack("y550 no\x00"))))
	f.Add([]byte(string(pack("hX-A\x00b\x00")) + string(pack("a"))))
	f.Add([]byte(string(pack("m\x00\x00\x00\x01X\x00\x00")) + string(pack("q why\x00")) + string(pack("c"))))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := input(t, plain)
		c := &canned{}
		c.in.Write(pack("O" + number(6) + number(0xff) + number(allSteps&^noBody)))
		c.in.Write(b)
		talk := newTalk(&Scanner{cfg: Config{MaxEdits: 50, MaxEditBytes: 1000}}, in, c)
		err := talk.run()
		if err != nil {
			return
		}
		for _, f := range talk.findings {
			if strings.ContainsAny(f.Reason, "\r\n\x00\x1b") {
				t.Fatalf("%+v", f)
			}
		}
		Edits(talk.findings, in.Header)
	})
}
