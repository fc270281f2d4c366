package config

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
	"gatepost/internal/policy/access"
	"gatepost/internal/policy/auth/authfile"
	"gatepost/internal/policy/harvest"
	"gatepost/internal/policy/helo"
	"gatepost/internal/policy/rate"
	"gatepost/internal/policy/sender"
	"gatepost/internal/script"
)

// checkLogin holds the ways to log in against the flow that knows users.
func (v *validator) checkLogin(l *Listener) {
	unique(v, ruleDuplicateElement, l.Auth)
	if l.AuthUpstream != "" {
		v.checkUpstreamLogin(l)
		return
	}
	switch {
	case !v.ok(&l.Auth, &l.Flows.Auth):
	case len(l.Auth) == 0 && l.AuthWithoutTLS:
		v.report(ruleUnusedKey, &l.AuthWithoutTLS, "is set, but nobody may log in", `write auth = ["PLAIN", "LOGIN"], or take it out`)
	case len(l.Auth) == 0 && l.Flows.Auth != "":
		v.warn(ruleWarnNoAuth, &l.Flows.Auth, "there is a flow that knows users, but nobody may log in", `write auth = ["PLAIN", "LOGIN"]`)
	case len(l.Auth) > 0 && l.Flows.Auth == "":
		v.report(ruleNoAuthFlow, &l.Auth, "users may log in, but no flow knows them", `write flows = { auth = "users" } and a [[flow]] of the stage "auth"`)
	}
	if len(l.Auth) == 0 {
		return
	}
	v.checkLoginTLS(l)
}

// checkLoginTLS keeps passwords from travelling in the clear unasked.
func (v *validator) checkLoginTLS(l *Listener) {
	switch {
	case !v.ok(&l.TLS):
	case l.TLS == "off" && !l.AuthWithoutTLS:
		v.report(ruleNoAuthTLS, &l.Auth, `users may log in under TLS only, but tls = "off"`, `write tls = "starttls", or auth_without_tls = true`)
	case l.AuthWithoutTLS && (l.TLS == "off" || l.TLS == "starttls"):
		v.warn(ruleWarnClearAuth, &l.AuthWithoutTLS, "passwords of users may travel in the clear", "take it out")
	case l.AuthWithoutTLS:
		v.report(ruleUnusedKey, &l.AuthWithoutTLS, fmt.Sprintf("is set, but with tls = %q there is TLS always", l.TLS), "take it out")
	}
}

// checkStageBlock checks a block of a stage before content.
func (v *validator) checkStageBlock(kind *blockKind, b *Block) {
	v.checkActs(kind, b)
	switch p := b.Params.(type) {
	case *AccessBlock:
		v.checkAccess(b, p)
	case *RateBlock:
		v.checkRate(kind, b, p)
	case *ConcurrencyBlock:
		if p.Per == "address" && (v.isSet(&p.IPv4Prefix) || v.isSet(&p.IPv6Prefix)) {
			v.report(ruleUnusedKey, &p.Per, "an address is no network: ipv4_prefix and ipv6_prefix have no effect", "take them out")
		}
	case *DNSBLBlock:
		unique(v, ruleDuplicateElement, p.Zones)
	case *ClientReputationBlock:
		if p.Threshold != nil && b.Acts.OnMatch == "" && b.Acts.Action == "" {
			v.report(ruleUnusedKey, &p.Threshold, "is set, but without on_match the block only counts", `write on_match = "reject" or the like, or take it out`)
		}
	case *TarpitBlock:
		if p.Delay == 0 && p.PerPoint == 0 && v.ok(&p.Delay, &p.PerPoint) {
			v.report(ruleBadBlock, &b.Use, "makes nobody wait", `write delay = "5s" or the like`)
		}
		if p.Delay > p.Max && v.ok(&p.Delay, &p.Max) {
			v.report(ruleBadBlock, &p.Delay, fmt.Sprintf("is %s, but max is %s", formatDuration(p.Delay), formatDuration(p.Max)), "make max longer")
		}
	case *HeloBlock:
		v.checkScoreNames(&p.Scores, helo.DefaultScores())
	case *SenderDomainBlock:
		v.checkScoreNames(&p.Scores, sender.DefaultScores())
	case *OwnDomainSpoofBlock:
		unique(v, ruleDuplicateElement, p.Except)
		for i := range p.Except {
			if _, err := sender.NewSpoof(sender.SpoofConfig{Domains: offline{}, Except: p.Except[i : i+1]}); err != nil {
				v.report(ruleBadList, &p.Except[i], fmt.Sprintf("%q is neither an address, a network, a domain nor user@domain", p.Except[i]), "")
			}
		}
	case *GreylistBlock:
		if v.ok(&p.Delay, &p.Window) && p.Window <= p.Delay {
			v.report(ruleBadBlock, &p.Window, fmt.Sprintf("is %s, but the second attempt must wait %s: nobody would pass", formatDuration(p.Window), formatDuration(p.Delay)), "make it longer than delay")
		}
		if v.ok(&p.Keep, &p.Window) && p.Keep < p.Window {
			v.report(ruleBadBlock, &p.Keep, fmt.Sprintf("is %s, but window is %s: who passed would be forgotten before who waits", formatDuration(p.Keep), formatDuration(p.Window)), "make it longer than window")
		}
		unique(v, ruleDuplicateElement, p.Allow)
	case *SPFBlock:
		for _, at := range []*mail.Action{&b.Acts.OnMatch, &b.Acts.Action} {
			if v.isSet(at) {
				v.report(ruleUnusedKey, at, "is not for this block, which has an action for each answer", "write on_fail or on_softfail")
			}
		}
	case *HarvestBlock:
		v.checkHarvest(b, p)
	case *ScriptBlock:
		p.Source = v.script(&p.File, kind.stage)
		v.checkIcon(&p.Icon)
	default:
		v.checkAuthBlock(b)
	}
}

// checkHarvest wants that clients are slowed down before they are sent away.
func (v *validator) checkHarvest(b *Block, p *HarvestBlock) {
	unique(v, ruleDuplicateElement, p.Except)
	if !v.readable(b) {
		return
	}
	_, err := harvest.New(harvest.Config{
		SlowAfter: p.SlowAfter, SessionLimit: p.SessionLimit, NetworkSlowAfter: p.NetworkSlowAfter, NetworkLimit: p.NetworkLimit,
		HalfLife: p.HalfLife, Delay: p.Delay, MaxDelay: p.MaxDelay, IPv4Bits: p.IPv4Prefix, IPv6Bits: p.IPv6Prefix,
	})
	if err != nil {
		v.refused(b, err)
	}
}

// checkAuthBlock checks a block that knows users.
func (v *validator) checkAuthBlock(b *Block) {
	switch p := b.Params.(type) {
	case *AuthFileBlock:
		v.checkUsersFile(&p.File)
	case *AuthSMTPBlock:
		for i := range v.cfg.Transports {
			t := &v.cfg.Transports[i]
			if t.Name == p.Transport && p.Transport != "" && t.Kind != "smtp" && t.Kind != "" && v.ok(&t.Kind) {
				v.report(ruleNoCallout, &p.Transport, fmt.Sprintf("nobody can log in at a transport of kind %q", t.Kind), `take one of kind "smtp"`)
			}
		}
		v.named(ruleDanglingTransport, &p.Transport, "transport", v.transportNames())
	case *AuthLDAPBlock:
		v.checkAuthLDAP(b, p)
	case *AuthHTTPBlock:
		v.named(ruleDanglingHTTP, &p.HTTP, "http", v.httpNames())
	}
}

// checkActs checks what follows from a block.
func (v *validator) checkActs(kind *blockKind, b *Block) {
	a := b.Acts
	if a == nil {
		return
	}
	if v.isSet(&a.OnMatch) && v.isSet(&a.Action) {
		v.report(ruleUnusedKey, &a.Action, "is another name of on_match, which is set, too", "take one of them out")
	}
	if a.Reply == "" {
		return
	}
	if err := flow.CheckReply(a.Reply); err != nil {
		v.report(ruleBadAction, &a.Reply, err.Error(), "")
	}
}

// checkAccess checks lists of clients, and reads those in files.
func (v *validator) checkAccess(b *Block, p *AccessBlock) {
	v.checkCountries(p.CountriesAllow)
	v.checkCountries(p.CountriesDeny)
	good := v.checkEntries(p.Allow)
	good = v.checkEntries(p.Deny) && good
	cfg := access.Config{
		AllowFile: string(p.AllowFile), DenyFile: string(p.DenyFile), AllowCountries: p.CountriesAllow, DenyCountries: p.CountriesDeny,
		AllowASNs: asns(p.ASNAllow), DenyASNs: asns(p.ASNDeny), Resolver: offline{},
	}
	if good {
		cfg.Allow, cfg.Deny = p.Allow, p.Deny
	} else {
		cfg.Allow = []string{"127.0.0.1"} // something, so that the rest is looked at
	}
	unique(v, ruleDuplicateElement, p.MMDBFile)
	for i := range p.MMDBFile {
		if !v.exists(&p.MMDBFile[i]) {
			return
		}
		cfg.Databases = append(cfg.Databases, string(p.MMDBFile[i]))
	}
	if !v.exists(&p.AllowFile) || !v.exists(&p.DenyFile) || !v.readable(b) {
		return
	}
	_, err := access.New(cfg)
	if err == nil {
		return
	}
	for field, prefix := range map[*Path]string{&p.AllowFile: "access: allow_file: ", &p.DenyFile: "access: deny_file: "} {
		if text, ok := strings.CutPrefix(err.Error(), prefix); ok {
			v.badLines(ruleBadList, field, text, `a line is a network, an address, "host.example" or ".example", and perhaps a reason`)
			return
		}
	}
	v.refused(b, err)
}

// checkEntries checks lists of clients that stand in the file itself.
func (v *validator) checkEntries(list []string) bool {
	unique(v, ruleDuplicateElement, list)
	good := true
	for i := range list {
		if _, err := access.New(access.Config{Allow: list[i : i+1], Resolver: offline{}}); err != nil {
			good = false
			v.report(ruleBadList, &list[i], message.SafeText(strings.TrimPrefix(err.Error(), "access: allow: "), maxMessage), "")
		}
	}
	return good
}

func (v *validator) checkCountries(list []string) {
	unique(v, ruleDuplicateElement, list)
	for i, code := range list {
		if len(code) != 2 || strings.Trim(strings.ToUpper(code), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			v.report(ruleBadList, &list[i], fmt.Sprintf("%q is no country", shorten(code)), `write its code of two letters, such as "DE"`)
			list[i] = "ZZ" // so that it is not reported twice; there will be no Config
		}
	}
}

func asns(list []int) []uint32 {
	var numbers []uint32
	for _, n := range list {
		numbers = append(numbers, uint32(n))
	}
	return numbers
}

// checkRate wants limits that can be counted at the stage.
func (v *validator) checkRate(kind *blockKind, b *Block, p *RateBlock) {
	if !v.readable(b) {
		return
	}
	if p.Per != "network" && (v.isSet(&p.IPv4Prefix) || v.isSet(&p.IPv6Prefix)) {
		v.report(ruleUnusedKey, &p.Per, fmt.Sprintf("is %q: ipv4_prefix and ipv6_prefix have no effect", p.Per), "take them out")
	}
	if _, err := rate.New(p.config(kind.stage)); err != nil {
		v.refused(b, err)
	}
}

// config is what package rate makes a block of.
func (p *RateBlock) config(stage string) rate.Config {
	return rate.Config{
		Stage: policy.Stage(stage), Per: rate.Per(p.Per), Limits: p.Limits(),
		IPv4Bits: p.IPv4Prefix, IPv6Bits: p.IPv6Prefix, MaxKeys: p.MaxKeys,
	}
}

// Limits returns the limits that are set.
func (p *RateBlock) Limits() map[rate.Kind]rate.Limit {
	limits := map[rate.Kind]rate.Limit{
		rate.Connections: p.Connections, rate.Messages: p.Messages, rate.Recipients: p.Recipients,
		rate.Bytes: p.Bytes, rate.Errors: p.Errors, rate.Logins: p.Logins,
	}
	for kind, limit := range limits {
		if limit == (rate.Limit{}) {
			delete(limits, kind)
		}
	}
	return limits
}

// checkScoreNames wants that the findings exist that are given scores.
func (v *validator) checkScoreNames(scores *Scores, known map[string]float64) {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	for name := range *scores {
		if slices.Contains(names, name) {
			continue
		}
		hint := "there are " + quotedList(names)
		if meant := closest(name, names); meant != "" {
			hint = fmt.Sprintf("did you mean %q?", meant)
		}
		v.report(ruleUnknownKey, entry{scores, name}, fmt.Sprintf("the block finds no %q", shorten(name)), hint)
	}
}

// checkUsersFile reads a file of users.
func (v *validator) checkUsersFile(path *Path) {
	if *path == "" || !v.exists(path) {
		return
	}
	users, err := authfile.New(authfile.Config{File: string(*path)})
	if err != nil {
		v.badLines(ruleBadUsers, path, err.Error(), `a line is "name password", and perhaps what the user may send as`)
		return
	}
	for _, w := range users.Warnings() {
		v.warn(ruleWarnUsers, path, message.SafeText(fmt.Sprintf("%s: %s", *path, w), maxMessage), "")
	}
	if users.Len() == 0 {
		v.warn(ruleWarnUsers, path, fmt.Sprintf("%s lists nobody", *path), "")
	}
}

// script compiles a script and returns its text.
func (v *validator) script(path *Path, stage string) string {
	if *path == "" {
		return ""
	}
	source, ok := v.read(path)
	if !ok {
		return ""
	}
	transports := make([]string, 0, len(v.cfg.Transports))
	for _, name := range v.transportNames() {
		transports = append(transports, string(name))
	}
	program, err := script.Compile(script.Config{Name: filepath.Base(string(*path)), Source: string(source), Transports: transports})
	var list script.Errors
	switch {
	case errors.As(err, &list):
		for _, e := range list {
			v.problems = append(v.problems, Problem{
				Rule: string(ruleBadScript), File: string(*path), Line: e.Line, Column: e.Column,
				Path: v.places[path].path, Message: message.SafeText(e.Text, maxMessage),
			})
		}
	case err != nil:
		v.report(ruleBadScript, path, message.SafeText(err.Error(), maxMessage), "")
	case !program.Has(script.Stage(stage)):
		v.report(ruleWrongStage, path, fmt.Sprintf("%s has no function for the stage %q", *path, stage), fmt.Sprintf("write def %s(s): in it", stage))
	}
	return string(source)
}

// checkIcon wants a sign, not a name.
func (v *validator) checkIcon(icon *string) {
	if utf8.RuneCountInString(*icon) > maxIcon {
		v.report(ruleBadBlock, icon, fmt.Sprintf("is longer than %d characters", maxIcon), "what it is called stands in label")
	}
}

// maxIcon is how many characters an icon may have: some signs are made of several.
const maxIcon = 8

// exists wants a file that can be opened, or no name.
func (v *validator) exists(path *Path) bool {
	if *path == "" {
		return true
	}
	info, err := os.Stat(string(*path))
	switch {
	case err != nil:
		v.report(ruleFileMissing, path, fmt.Sprintf("%s can't be read: %s", *path, fileError(err)), "")
		return false
	case !info.Mode().IsRegular():
		v.report(ruleFileKind, path, fmt.Sprintf("%s is not a regular file", *path), "")
		return false
	}
	file, err := os.Open(string(*path))
	if err != nil {
		v.report(ruleFileMissing, path, fmt.Sprintf("%s can't be read: %s", *path, fileError(err)), "run as the user that Gatepost runs as, and let it read the file")
		return false
	}
	return file.Close() == nil
}

// lineOf finds the lines in an error about a file.
var lineOf = regexp.MustCompile(`^(?:.*?: )?line (\d+): (.*)$`)

// badLines reports what somebody says about a file: at its lines, where there are
// any in it, else at the key.
func (v *validator) badLines(r rule, path *Path, text, hint string) {
	found := false
	for line := range strings.SplitSeq(text, "\n") {
		m := lineOf.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		found = true
		number, _ := strconv.Atoi(m[1]) // digits, and few
		v.problems = append(v.problems, Problem{
			Rule: string(r), File: string(*path), Line: number, Column: 1, Path: v.places[path].path,
			Message: message.SafeText(m[2], maxMessage), Hint: hint,
		})
	}
	if !found {
		v.report(r, path, message.SafeText(text, maxMessage), "")
	}
}

// refused reports what a package says about the parameters of a block, "use:
// parameter: text", at the parameter.
func (v *validator) refused(b *Block, err error) {
	text := strings.TrimPrefix(err.Error(), b.Use+": ")
	params := reflect.ValueOf(b.Params).Elem()
	var at any = &b.Use
	for _, k := range keysOf(params.Type()) {
		field := params.Field(k.index).Addr().Interface()
		rest, ok := strings.CutPrefix(text, k.name)
		if ok && (strings.HasPrefix(rest, ": ") || strings.HasPrefix(rest, " is ")) && v.isSet(field) {
			at, text = field, strings.TrimPrefix(strings.TrimPrefix(rest, ": "), " ")
			break
		}
	}
	v.report(ruleBadBlock, at, message.SafeText(strings.ReplaceAll(text, "\n", "; "), maxMessage), "")
}

// offline stands for the DNS and the domains while blocks are tried out: a
// configuration is checked without asking anybody.
type offline struct{}

var errOffline = errors.New("nobody is asked while a configuration is checked")

// Addrs implements the resolvers of blocks.
func (offline) Addrs(context.Context, string) ([]netip.Addr, error) { return nil, errOffline }

// PTR implements the resolvers of blocks.
func (offline) PTR(context.Context, netip.Addr) ([]string, error) { return nil, errOffline }

// Ours implements the domains of blocks.
func (offline) Ours(string) bool { return false }
