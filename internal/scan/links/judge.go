package links

import (
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/textview"
)

// symbol is one thing that a link can look like.
type symbol struct {
	name  string
	score float64
	// see returns why the link shows it, "" where it does not.
	see func(j *judgement, u *textview.URL) string
}

// symbols are what links are looked at for. The scores are measured: see
// docs/links.md.
var symbols = [...]symbol{
	{"text-mismatch", 1, mismatch},
	{"name-mismatch", 0, nameMismatch},
	{"look-alike", 4, lookAlike},
	{"own-name", 2, ownName},
	{"mixed-script", 2.5, mixedScript},
	{"hidden-host", 2, hiddenHost},
	{"user-host", 2, userHost},
	{"ip-host", 1.5, ipHost},
	{"number-host", 3, numberHost},
	{"odd-port", 0.5, oddPort},
	{"data-link", 2.5, dataLink},
	{"script-link", 0, scriptLink},
	{"form", 0, form},
	{"redirect", 0, redirect},
	{"shortener", 0, shortener},
	{"international", 0, international},
	{"long-link", 0, longLink},
}

// judgement looks at the links of one message.
type judgement struct {
	urls []textview.URL
	own  []string
	// skeletons are what the own domains look like, in their order.
	skeletons []string
}

// judge returns one finding for each symbol that a link shows, for the first link
// that does.
func judge(urls []textview.URL, own []string) []mail.Finding {
	j := &judgement{urls: urls, own: own}
	for _, d := range own {
		j.skeletons = append(j.skeletons, textview.Skeleton(d))
	}
	var findings []mail.Finding
	for _, s := range symbols {
		var first *mail.Finding
		count := 0
		for i := range urls {
			reason := s.see(j, &urls[i])
			if reason == "" {
				continue
			}
			if count++; first == nil {
				first = &mail.Finding{Module: use, Symbol: s.name, Result: mail.Match, Score: s.score, Reason: reason, Part: urls[i].Part}
			}
		}
		if first == nil {
			continue
		}
		if count > 1 {
			first.Reason += fmt.Sprintf(" (and %d more)", count-1)
		}
		findings = append(findings, *first)
	}
	return findings
}

// clickable reports that a reader can follow the link, and does not merely load it.
func clickable(u *textview.URL) bool {
	switch u.From {
	case "href", "form", "text", "refresh", "document", "subject":
		return u.Scheme != "mailto"
	}
	return false
}

// shown makes a piece of mail fit for a reason.
func shown(s string) string { return message.SafeText(s, 80) }

// mismatch: the text of the link is an address at another domain.
func mismatch(j *judgement, u *textview.URL) string { return j.mismatch(u, true) }

// nameMismatch: the text of the link is a name alone. Newsletters name their
// advertisers so, and count who follows.
func nameMismatch(j *judgement, u *textview.URL) string { return j.mismatch(u, false) }

func (j *judgement) mismatch(u *textview.URL, address bool) string {
	if u.From != "href" || u.Domain == "" && u.Host == "" || u.Scheme == "mailto" {
		return ""
	}
	t, whole, ok := displayed(u.Text)
	if !ok || whole != address || t.Domain == "" || t.Domain == u.Domain || sameOwner(t.Domain, u.Domain) {
		return ""
	}
	// A link by way of a redirect that names the shown domain leads there.
	for i := range j.urls {
		n := &j.urls[i]
		if n.From == "nested" && n.Domain == t.Domain && strings.Contains(u.Clean, "?") && n.Via == u.Host {
			return ""
		}
	}
	return fmt.Sprintf("a link shows %s and leads to %s", shown(t.Host), shown(u.Host))
}

// displayed returns the address that the text of a link begins with; whole says
// that it has a scheme, a path or "www", and is not a name alone.
func displayed(text string) (u textview.URL, whole, ok bool) {
	text, _, _ = strings.Cut(strings.TrimSpace(text), " ")
	text = strings.Trim(text, "<>()[]\"'.,;:")
	if text == "" || strings.Contains(text, "@") {
		return u, false, false
	}
	whole = strings.Contains(text, "://")
	if !whole {
		host, path, found := strings.Cut(text, "/")
		if !strings.Contains(host, ".") || textview.Registered(strings.ToLower(host)) == "" {
			return u, false, false
		}
		whole = found && path != "" || len(host) > 4 && strings.EqualFold(host[:4], "www.")
		text = "http://" + text
	}
	u, ok = textview.Parse(text)
	return u, whole, ok
}

// sameOwner reports that two domains probably belong to the same: one name under
// several top-level domains. A name that only begins with the other is what
// deceivers register.
func sameOwner(a, b string) bool {
	a, _, _ = strings.Cut(a, ".")
	b, _, _ = strings.Cut(b, ".")
	return a == b
}

// lookAlike: a domain that can be mistaken for one that the reader knows.
func lookAlike(j *judgement, u *textview.URL) string {
	if u.Domain == "" {
		return ""
	}
	const short = 5 // of a label; shorter ones are alike by chance
	skeleton := textview.Skeleton(u.Domain)
	for i, s := range j.skeletons {
		label, _, _ := strings.Cut(j.own[i], ".")
		if s == skeleton && j.own[i] != u.Domain && len(label) >= short {
			return fmt.Sprintf("%s (%s) looks like %s", shown(u.Domain), shown(textview.Unicode(u.Domain)), shown(j.own[i]))
		}
	}
	return ""
}

// ownName: a domain that the reader knows stands in front of another.
func ownName(j *judgement, u *textview.URL) string {
	if !clickable(u) || u.Domain == "" || u.Host == u.Domain {
		return ""
	}
	front := "." + strings.TrimSuffix(u.Host, "."+u.Domain) + "."
	for _, own := range j.own {
		if own != u.Domain && (strings.Contains(front, "."+own+".") || strings.Contains(front, "."+strings.ReplaceAll(own, ".", "-")+".")) {
			return fmt.Sprintf("%s holds the name %s and belongs to %s", shown(u.Host), shown(own), shown(u.Domain))
		}
	}
	return ""
}

func mixedScript(_ *judgement, u *textview.URL) string {
	if !u.Tricks.Has(textview.TrickMixed) {
		return ""
	}
	return fmt.Sprintf("%s is written with letters that look like others: %s", shown(u.Host), shown(textview.Unicode(u.Host)))
}

// hiddenHost: the host is written so that programs which look for it miss it.
func hiddenHost(_ *judgement, u *textview.URL) string {
	tricks := u.Tricks & (textview.TrickEscaped | textview.TrickBackslash | textview.TrickControl | textview.TrickWide)
	if tricks == 0 || u.Host == "" || u.Scheme == "mailto" {
		return ""
	}
	return fmt.Sprintf("the host %s is written in disguise (%s): %s", shown(u.Host), tricks, shown(u.Raw))
}

// userHost: what stands in front of an @ looks like the host.
func userHost(_ *judgement, u *textview.URL) string {
	if !u.Tricks.Has(textview.TrickUser) || u.Scheme == "ftp" || u.Scheme == "mailto" {
		return ""
	}
	return fmt.Sprintf("the link leads to %s, which stands behind an @: %s", shown(u.Host), shown(u.Raw))
}

func ipHost(_ *judgement, u *textview.URL) string {
	if !clickable(u) || u.Host == "" || u.Domain != "" || strings.Trim(u.Host, "0123456789.") != "" && !strings.Contains(u.Host, ":") || u.Tricks.Has(textview.TrickNumber) {
		return ""
	}
	return fmt.Sprintf("a link leads to the address %s instead of a name", shown(u.Host))
}

func numberHost(_ *judgement, u *textview.URL) string {
	if !u.Tricks.Has(textview.TrickNumber) {
		return ""
	}
	return fmt.Sprintf("the address %s is written as a number: %s", shown(u.Host), shown(u.Raw))
}

func oddPort(_ *judgement, u *textview.URL) string {
	switch u.Port {
	case "", "80", "443", "8080", "8443":
		return ""
	}
	if !clickable(u) || u.Scheme == "ftp" {
		return ""
	}
	return fmt.Sprintf("a link leads to port %s of %s", u.Port, shown(u.Host))
}

func dataLink(_ *judgement, u *textview.URL) string {
	if u.Scheme != "data" || u.From == "src" {
		return ""
	}
	return "a link holds a document of its own: " + shown(u.Raw)
}

// scriptLink leaves out the idle scripts that editors write.
func scriptLink(_ *judgement, u *textview.URL) string {
	if u.Scheme != "javascript" && u.Scheme != "vbscript" {
		return ""
	}
	code := strings.ToLower(strings.Trim(u.Clean[strings.IndexByte(u.Clean, ':')+1:], " ;"))
	if code == "" || strings.HasPrefix(code, "void") || strings.HasPrefix(code, "//") {
		return ""
	}
	return "a link runs a script: " + shown(u.Raw)
}

func form(_ *judgement, u *textview.URL) string {
	if u.From != "form" || u.Scheme == "mailto" || u.Host == "" {
		return ""
	}
	return "a form in the message sends what is typed to " + shown(u.Host)
}

func redirect(_ *judgement, u *textview.URL) string {
	if u.From != "nested" || u.Domain == "" || u.Domain == textview.Registered(u.Via) {
		return ""
	}
	return fmt.Sprintf("a link to %s goes on to %s", shown(u.Via), shown(u.Host))
}

// shorteners hide where a link leads. A listing of the shortener itself would say
// nothing, and following the link would tell the sender.
var shorteners = []string{
	"bit.ly", "bl.ink", "buff.ly", "clck.ru", "cutt.ly", "goo.gl", "is.gd", "lnkd.in", "ow.ly", "qr.ae", "rb.gy", "rebrand.ly", "s.id", "shorturl.at",
	"soo.gd", "t.co", "t.ly", "tiny.cc", "tinyurl.com", "v.gd",
}

func shortener(_ *judgement, u *textview.URL) string {
	if !slices.Contains(shorteners, u.Domain) {
		return ""
	}
	return shown(u.Host) + " hides where the link leads"
}

func international(_ *judgement, u *textview.URL) string {
	if !strings.Contains(u.Host, "xn--") || u.Tricks.Has(textview.TrickMixed) {
		return ""
	}
	return fmt.Sprintf("%s is %s", shown(u.Host), shown(textview.Unicode(u.Host)))
}

func longLink(_ *judgement, u *textview.URL) string {
	const long = 2000
	if len(u.Raw) < long || u.Scheme == "data" {
		return ""
	}
	return fmt.Sprintf("a link to %s is %d bytes long", shown(u.Host), len(u.Raw))
}
