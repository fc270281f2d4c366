package lint

import (
	"fmt"
	"strings"
)

// room is one row of the map of packages: what lives there, and on which level.
// A package may import rooms of lower levels only, and packages of its own room
// unless the row says otherwise.
type room struct {
	pattern string // directory below the root
	level   int
	// apart says that the packages of the room must not import each other: they
	// are modules, each legible alone.
	apart bool
	// users, where set, lists the only rooms that may import this one.
	users []string
	why   string // the reason for the ban, as the message gives it
}

// levels of the map, from the bottom.
const (
	levelNouns = iota
	levelGrammar
	levelMessage
	levelTools
	levelParts
	levelSpine
	levelDoors
	levelCommand
)

// rooms is the map. A package that no row matches is a problem of its own: new
// rooms are a decision, and this table is where it is written down.
var rooms = []room{
	{pattern: "internal/mail", level: levelNouns, why: "the nouns know nobody"},

	{pattern: "internal/smtp", level: levelGrammar, why: "a grammar knows the nouns and nothing else"},
	{pattern: "internal/pop3", level: levelGrammar, why: "a grammar knows the nouns and nothing else"},

	{pattern: "internal/message/...", level: levelMessage, why: "a message does not know who signs, keeps or sends it"},
	{pattern: "internal/lookup", level: levelMessage, why: "what keeps answers does not know what was asked"},

	{pattern: "internal/spool/...", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/store/...", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/smtpclient", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/smtpclient/sinktest", level: levelTools, users: []string{}, why: "it is for tests"},
	{pattern: "internal/dns/...", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/dkim", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/mtasts", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/tlsrpt", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/intercept", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/firewall", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/recipients", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/rewrite/...", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/ldap", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/weblookup", level: levelTools, why: "tools do not know what they are used for"},

	// What a module is given and the runner of them; the modules are parts.
	{pattern: "internal/scan", level: levelTools, why: "tools do not know what they are used for"},

	// Grammars and rules below a module, which others may need as well.
	{pattern: "internal/scan/authres/spf", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/scan/authres/dmarc", level: levelTools, why: "tools do not know what they are used for"},

	{pattern: "internal/policy", level: levelTools, why: "tools do not know what they are used for"},

	{pattern: "internal/policy/...", level: levelParts, apart: true, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/scan/scantest", level: levelParts, users: []string{}, why: "it is for tests"},
	{pattern: "internal/scan/...", level: levelParts, apart: true, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/flow", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/mailbox", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/quarantine", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/queue/...", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/transport/...", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/upstream", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/route", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/script", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/oidc", level: levelTools, why: "tools do not know what they are used for"},
	{pattern: "internal/accounts", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/webhook", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/history", level: levelParts, why: "parts meet in the gateway, not behind its back"},
	{pattern: "internal/logsearch", level: levelParts, why: "parts meet in the gateway, not behind its back"},

	{pattern: "internal/gateway", level: levelSpine, why: "the spine does not know through which door a message came"},

	{pattern: "internal/smtpserver", level: levelDoors, why: "doors do not know each other"},
	{pattern: "internal/pop3proxy", level: levelDoors, why: "doors do not know each other"},
	{pattern: "internal/admin/...", level: levelDoors, why: "doors do not know each other"},

	// Leaves: beside the others, known to those who wire only, so that no part
	// depends on how it is configured, logged or counted.
	{pattern: "internal/config/...", level: levelSpine, users: wirers, why: "packages have their own small Config; serve.go fills it"},
	{pattern: "internal/logs", level: levelGrammar, users: wirers, why: "packages take a *slog.Logger"},
	{pattern: "internal/metrics", level: levelGrammar, users: wirers, why: "packages declare the observer that they need"},
	{pattern: "internal/certs", level: levelGrammar, users: wirers, why: "packages take a *tls.Config"},

	{pattern: "internal/memconn", level: levelNouns, users: []string{}, why: "it is for tests"},
	{pattern: "internal/lint/...", level: levelNouns, users: []string{}, why: "it is for tests"},

	{pattern: "cmd/gatepost", level: levelCommand, why: "nobody imports a command"},
	{pattern: "bench/...", level: levelCommand + 1, why: "nobody imports a command"},
	{pattern: "test/...", level: levelCommand, users: []string{"bench"}, why: "it is for tests"},
}

// wirers are the rooms that may import the leaves.
var wirers = []string{"cmd/gatepost", "internal/admin"}

// ban keeps an import out of every package but the ones that are named.
type ban struct {
	imported string
	except   []string
	// tests says that the ban holds for test files too.
	tests bool
	why   string
}

// bans is the list of what may be imported where. A library has one door, so
// that it can be replaced and its traps are known in one place.
var bans = []ban{
	{imported: "net/textproto", why: "its dot reader ends a message on illegal line ends; use internal/smtp"},
	{imported: "net/smtp", tests: true, why: "it cannot pipeline, hides replies and says EHLO localhost; use internal/smtpclient, in tests a raw dialogue"},
	{imported: "log", tests: true, why: "take a *slog.Logger"},
	{imported: "math/rand", tests: true, why: "math/rand/v2 needs no seed; what must not be guessed comes from crypto/rand"},
	{imported: "io/ioutil", tests: true, why: "it is deprecated"},
	{imported: "unsafe", why: "nothing here is worth it"},
	{imported: "github.com/cockroachdb/...", except: []string{"internal/spool"}, why: "the spool is the only door to Pebble"},
	{imported: "github.com/miekg/dns", except: []string{"internal/dns/...", "bench"}, why: "internal/dns is the only door to the DNS"},
	{imported: "github.com/prometheus/...", except: []string{"internal/metrics", "internal/admin"}, why: "internal/metrics counts for everybody"},
	{imported: "github.com/pelletier/go-toml/v2", except: []string{"internal/config/..."}, why: "internal/config reads the configuration"},
	{imported: "github.com/alecthomas/kong", except: []string{"cmd/gatepost"}, why: "only the command line parses the command line"},
	{imported: "github.com/coreos/go-systemd/...", except: []string{"cmd/gatepost"}, why: "only the command knows who started it"},
	{imported: "gopkg.in/natefinch/lumberjack.v2", except: []string{"internal/logs"}, why: "internal/logs owns the log files"},
	{imported: "github.com/gabriel-vasile/mimetype", except: []string{"internal/message/mimetree"}, why: "mimetree.Sniff knows what the library does not"},
	{imported: "github.com/bodgit/sevenzip", except: []string{"internal/message/archive"}, why: "internal/message/archive checks the headers first and owns the budget"},
	{imported: "github.com/nwaples/rardecode/...", except: []string{"internal/message/archive"}, why: "internal/message/archive owns the budget and the goroutine that may be stuck"},
	{imported: "github.com/ulikunitz/xz/...", except: []string{"internal/message/archive/..."}, why: "internal/message/archive owns the budget for dictionaries"},
	{imported: "github.com/klauspost/compress/...", except: []string{"internal/message/archive", "internal/history", "internal/logsearch"}, why: "internal/message/archive owns the budget for windows; the other two read what this host wrote"},
	{imported: "archive/...", except: []string{"internal/message/archive"}, why: "internal/message/archive reads archives as programs differ about them, under one budget"},
	{imported: "modernc.org/sqlite/...", except: []string{"internal/store/..."}, why: "internal/store is the only door to the database"},
	{imported: "database/sql/...", except: []string{"internal/store/..."}, why: "internal/store is the only door to the database"},
	{imported: "github.com/jackc/pgx/...", except: []string{"internal/store/..."}, why: "internal/store is the only door to the database"},
	{imported: "github.com/pressly/goose/...", except: []string{"internal/store/..."}, why: "internal/store is the only door to the database"},
	{imported: "github.com/coreos/go-oidc/...", except: []string{"internal/oidc"}, why: "internal/oidc checks what the library leaves to its callers"},
	{imported: "golang.org/x/oauth2/...", except: []string{"internal/oidc"}, why: "internal/oidc checks what the library leaves to its callers"},
	{imported: "rsc.io/qr/...", except: []string{"internal/admin/pages"}, why: "pages draw second factors"},
	{imported: "github.com/microcosm-cc/bluemonday/...", except: []string{"internal/admin/pages"}, why: "pages show the HTML in mail behind a sandbox as well"},
	{imported: "github.com/chromedp/...", except: []string{"test/browser"}, why: "it is for tests"},
	{imported: "go.starlark.net/...", except: []string{"internal/script"}, why: "internal/script bounds what the language does not"},
	{imported: "blitiri.com.ar/go/spf", except: []string{}, why: "it is a second opinion for tests only; use internal/scan/authres/spf"},
	{imported: "github.com/gaissmai/bart", except: []string{"internal/policy/access", "internal/rewrite", "internal/script"}, why: "lists of networks are made there"},
	{imported: "github.com/oschwald/maxminddb-golang/...", except: []string{"internal/policy/access"}, why: "internal/policy/access bounds what is read"},
	{imported: "github.com/emersion/go-milter", why: "internal/scan/milter speaks the protocol itself, under limits and with contexts"},
	{imported: "github.com/go-ldap/ldap/...", except: []string{"internal/ldap"}, why: "internal/ldap gives it deadlines, limits and escaped values"},
	{imported: "golang.org/x/crypto/...", except: []string{"internal/policy/auth/...", "internal/accounts"}, why: "passwords of users are the only thing that needs it"},
	{imported: "github.com/emersion/go-msgauth/...", except: []string{}, why: "it is a second opinion for tests only"},
	{imported: "testing/...", except: []string{"test/...", "internal/dns/dnstest", "internal/smtpclient/sinktest", "internal/spool/spooltest", "internal/store/storetest", "internal/scan/scantest"}, why: "test helpers live in test packages"},
}

// Imports checks the direction of imports in files that are not tests, and the
// bans.
func Imports(t *Tree) []Problem {
	var problems []Problem
	for _, p := range t.Packages {
		if findRoom(p.Dir) == nil {
			problems = append(problems, Problem{Pos: p.Dir, Rule: "imports", Text: "this package is not on the map in internal/lint/imports.go: give it a level and a reason"})
		}
	}
	t.files(func(f *File) {
		for _, spec := range f.Syntax.Imports {
			if text := refuseImport(f, importPath(spec)); text != "" {
				problems = append(problems, t.problem(spec, "imports", "%s", text))
			}
		}
	})
	return problems
}

// refuseImport returns why the file must not import the path, or "".
func refuseImport(f *File, path string) string {
	for _, b := range bans {
		if !matches(b.imported, path) || f.Test && !b.tests {
			continue
		}
		if !matchesAny(b.except, f.Package.Dir) {
			return fmt.Sprintf("%s must not import %s: %s", f.Package.Dir, path, b.why)
		}
	}
	dir, ours := strings.CutPrefix(path, Module+"/")
	if !ours {
		if f.Package.Dir == "internal/mail" && strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
			return "internal/mail imports the standard library only, got " + path
		}
		return ""
	}
	if f.Test {
		return ""
	}
	return refuseRoom(f.Package.Dir, dir)
}

// refuseRoom returns why a package of the one directory must not import the
// other, or "". A directory that is not on the map is reported elsewhere.
func refuseRoom(from, to string) string {
	a, b := findRoom(from), findRoom(to)
	if a == nil || b == nil {
		return ""
	}
	if a == b {
		if a.apart && from != to {
			return fmt.Sprintf("%s must not import its neighbour %s: each is one module", from, to)
		}
		return ""
	}
	if b.users != nil && !matchesAny(b.users, from) && !matchesAny(b.users, strings.TrimSuffix(a.pattern, "/...")) {
		return fmt.Sprintf("%s must not import %s: %s", from, to, b.why)
	}
	if a.level <= b.level {
		return fmt.Sprintf("%s (level %d) must not import %s (level %d): %s", from, a.level, to, b.level, a.why)
	}
	return ""
}

func findRoom(dir string) *room {
	for i := range rooms {
		if matches(rooms[i].pattern, dir) {
			return &rooms[i]
		}
	}
	return nil
}

func matchesAny(patterns []string, p string) bool {
	for _, pattern := range patterns {
		if matches(pattern, p) {
			return true
		}
	}
	return false
}
