package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"gatepost/internal/flow"
)

// maxDisclaimer bounds each of the texts, in bytes: it is in every message.
const maxDisclaimer = 16 << 10

// checkDisclaimers reads their texts.
func (v *validator) checkDisclaimers() {
	uniqueNames(v, v.cfg.Disclaimers, func(d *Disclaimer) *Name { return &d.Name })
	for i := range v.cfg.Disclaimers {
		d := &v.cfg.Disclaimers[i]
		if d.TextFile == "" && d.HTMLFile == "" {
			v.report(ruleRequired, &d.TextFile, "there is no text", `write text_file = "legal.txt", html_file, or both`)
		}
		d.Text, d.HTML = v.disclaimerText(&d.TextFile), v.disclaimerText(&d.HTMLFile)
		if d.Name != "" && !v.addsDisclaimer(string(d.Name)) {
			v.warn(ruleWarnUnusedText, d, "no filter adds it", fmt.Sprintf("write then = %q in a [[filter]]", "disclaimer:"+string(d.Name)))
		}
	}
}

func (v *validator) disclaimerText(path *Path) string {
	if *path == "" {
		return ""
	}
	text, ok := v.read(path)
	switch {
	case !ok:
		return ""
	case !utf8.Valid(text) || slices.Contains(text, 0):
		v.report(ruleFileKind, path, fmt.Sprintf("%s is not UTF-8", *path), "")
	case len(text) > maxDisclaimer:
		v.report(ruleFileKind, path, fmt.Sprintf("%s has %d bytes, at most %d", *path, len(text), maxDisclaimer), "")
	case strings.TrimSpace(string(text)) == "":
		v.report(ruleFileKind, path, fmt.Sprintf("%s is empty", *path), "")
	}
	return string(text)
}

// addsDisclaimer reports whether some filter does. Their actions are not read yet.
func (v *validator) addsDisclaimer(name string) bool {
	return slices.ContainsFunc(v.cfg.Filters, func(f Filter) bool {
		return slices.ContainsFunc(f.Then, func(then string) bool {
			a, err := flow.ParseThen(then)
			return err == nil && a.Verb == flow.VerbDisclaimer && a.Arg == name
		})
	})
}

// checkDisclaimerOf wants that there is the text that an action adds.
func (v *validator) checkDisclaimerOf(then *string, a flow.FilterAction) {
	if a.Verb != flow.VerbDisclaimer || slices.ContainsFunc(v.cfg.Disclaimers, func(d Disclaimer) bool { return string(d.Name) == a.Arg }) {
		return
	}
	v.report(ruleDanglingText, then, fmt.Sprintf("no [[disclaimer]] has the name %q", a.Arg), "")
}
