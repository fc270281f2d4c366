package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gatepost/internal/flow"
	"gatepost/internal/scan/filter"
)

const referenceFile = "../../docs/configuration.md"

// TestReferenceIsUpToDate makes the reference from types.go, rules.go and the
// table of later keys, and compares it with the one in docs. "go generate"
// writes it anew.
func TestReferenceIsUpToDate(t *testing.T) {
	want := reference(t)
	if update() {
		if err := os.WriteFile(referenceFile, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: run go generate ./internal/config", referenceFile)
	}
}

// TestTheExampleIsValid keeps the example for new users from going stale. The
// files that it names are put beside it.
func TestTheExampleIsValid(t *testing.T) {
	text, err := os.ReadFile("../../docs/gatepost.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFixtures(t, dir)
	for name, from := range map[string]string{"cert.pem": "cert.pem", "key.pem": "key.pem", "dkim-s1.pem": "ed25519.pem"} {
		data, err := os.ReadFile(filepath.Join(dir, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"recipients.txt": "anna@example.com\n", "denied.txt": "192.0.2.66 wrote spam\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, problems := load("gatepost.example.toml", dir, text, testHost("gw.example.com"))
	for _, p := range problems {
		t.Error(p)
	}
	// What stands behind "# " in front of a key is there to be uncommented.
	if cfg == nil || len(cfg.Listeners) < 2 || len(cfg.DKIM) == 0 || len(cfg.Flows) < 2 || len(cfg.Filters) < 2 {
		t.Error("the example does not show what it should")
	}
}

// TestThePackagedFileIsValid reads the file that is installed, as it is and with
// what stands behind a "#" without a blank, which is there to be uncommented.
func TestThePackagedFileIsValid(t *testing.T) {
	text, err := os.ReadFile("../../packaging/gatepost.toml")
	if err != nil {
		t.Fatal(err)
	}
	full := regexp.MustCompile(`(?m)^#([^ ])`).ReplaceAllString(string(text), "$1")
	full = strings.Replace(full, "[admin]\n", "[admin]\nbase_url = \"https://gw.example.com\"\n", 1)
	full = regexp.MustCompile(`(?m)^#(  \{)`).ReplaceAllString(full, "$1")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "store.pw"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(text), full} {
		if _, problems := load("gatepost.toml", dir, []byte(text), testHost("gw.example.com")); len(problems) > 0 {
			t.Errorf("%v in\n%s", problems, text)
		}
	}
	cfg, _ := load("gatepost.toml", dir, []byte(full), testHost("gw.example.com"))
	if cfg == nil || len(cfg.Flows) == 0 || cfg.Listeners[0].Flows.Content == "" {
		t.Error("the uncommented file scans nothing")
	}
}

// TestEveryKeyIsDocumented wants words for people at each key.
func TestEveryKeyIsDocumented(t *testing.T) {
	docs := docsOf(t)
	for name, d := range docs {
		for field, text := range d.fields {
			if len(strings.Fields(text)) < 2 {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
}

// docsOf reads the comments that the reference and the forms are made of.
func docsOf(t *testing.T) map[string]structDoc {
	t.Helper()
	docs, err := readDocs(typeSources)
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// reference writes docs/configuration.md.
func reference(t *testing.T) string {
	docs := docsOf(t)
	var b strings.Builder
	b.WriteString(referenceHead)
	writeKeys(&b, docs, reflect.TypeFor[Config](), "")
	root := reflect.TypeFor[Config]()
	for _, k := range keysOf(root) {
		ft := root.Field(k.index).Type
		if elem := elemOf(ft); isTable(elem) {
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", sectionName(ft, "", k.name), capital(afterSubject(docs[elem.Name()].text)))
			writeKeys(&b, docs, elem, "")
		}
	}
	b.WriteString(strings.ReplaceAll(filtersHead, "´", "`"))
	for _, name := range filter.Conditions() {
		if !strings.Contains(filtersHead, "´"+name+"´") {
			t.Errorf("the condition %s is not described", name)
		}
	}
	for _, verb := range filterVerbs {
		if !strings.Contains(filtersHead, "´"+verb) {
			t.Errorf("the action %s is not described", verb)
		}
	}
	writeBlocks(&b, docs)
	writeRules(t, &b)
	return b.String()
}

// writeKeys lists the keys of a table; tables inside of it follow their key.
func writeKeys(b *strings.Builder, docs map[string]structDoc, t reflect.Type, prefix string) {
	for _, k := range keysOf(t) {
		ft := t.Field(k.index).Type
		if prefix == "" && t == reflect.TypeFor[Config]() && isTable(elemOf(ft)) {
			continue
		}
		name := prefix + k.name
		fmt.Fprintf(b, "- **`%s`**: %s  \n  %s", name, traits(ft, k), docs[t.Name()].fields[k.name])
		if example := k.tag.Get("example"); example != "" {
			fmt.Fprintf(b, " Example: `%s = %s`", name, exampleLiteral(ft, example))
		}
		b.WriteString("\n")
		if isTable(elemOf(ft)) {
			writeKeys(b, docs, elemOf(ft), name+".")
		}
	}
}

// writeBlocks describes each block of a flow.
func writeBlocks(b *strings.Builder, docs map[string]structDoc) {
	b.WriteString(strings.ReplaceAll(blocksHead, "´", "`"))
	stage := ""
	for _, kind := range blockKinds {
		if kind.stage != stage {
			stage = kind.stage
			fmt.Fprintf(b, "\n## Blocks of the stage %s\n\n%s\n", stage, strings.ReplaceAll(stageHeads[stage], "´", "`"))
			if stage == stageConnect {
				writeKeys(b, docs, reflect.TypeFor[StageActs](), "")
			}
		}
		params := reflect.TypeOf(kind.params()).Elem()
		fmt.Fprintf(b, "\n### %s\n\n%s", kind.use, capital(docs[params.Name()].text[len(params.Name())+1:]))
		if kind.acts() {
			d := flow.StageDefaults(kind.use)
			if kind.use != "spf" {
				fmt.Fprintf(b, " Its `on_match` is `%q` by default.", d.OnMatch)
			}
			fmt.Fprintf(b, " Its `on_unknown` is `%q` by default.", d.OnUnknown)
		}
		switch {
		case kind.timeout != 0:
			fmt.Fprintf(b, " Its `timeout` is %s by default.", formatDuration(kind.timeout))
		case kind.use == "clamav":
			b.WriteString(" Its `timeout` is that of [clamav] by default.")
		}
		if kind.repeats {
			b.WriteString(" A flow may hold several, with different parameters.")
		}
		b.WriteString("\n\n")
		writeKeys(b, docs, params, "")
	}
}

// traits is the type of a key, its default and what bounds it.
func traits(t reflect.Type, k key) string {
	parts := []string{referenceType(t)}
	switch {
	case k.tag.Get("port") == "socket":
		parts[0] = "socket"
	case k.tag.Get("single") == "true":
		parts[0] += ", or one " + referenceType(t.Elem())
	}
	if enum := k.tag.Get("enum"); enum != "" {
		choices := strings.Split(enum, ",")
		for i := range choices {
			choices[i] = code(strconv.Quote(choices[i]))
		}
		parts[0] = "one of " + strings.Join(choices, ", ")
		switch {
		case len(choices) == 1:
			parts[0] = choices[0]
		case t.Kind() == reflect.Slice:
			parts[0] = "list of " + strings.Join(choices, ", ")
		}
	}
	if hint := strings.TrimPrefix(rangeHint(k), "allowed is "); hint != "" {
		parts = append(parts, hint)
	}
	if kinds := k.tag.Get("kinds"); kinds != "" {
		parts = append(parts, "kind "+strings.ReplaceAll(kinds, ",", ", "))
	}
	def, ok := k.tag.Lookup("default")
	switch {
	case k.tag.Get("required") == "true":
		parts = append(parts, "**required**")
	case strings.HasPrefix(def, "("):
		parts = append(parts, "default: "+strings.Trim(def, "()"))
	case ok:
		parts = append(parts, "default "+code(exampleLiteral(t, def)))
	}
	return strings.Join(parts, "; ")
}

func code(s string) string { return "`" + s + "`" }

func referenceType(t reflect.Type) string {
	names := map[string]string{
		"Size": "size", "Rate": "rate", "Duration": "duration", "Path": "path", "Name": "name", "DomainName": "domain",
		"Prefix": "network", "Addr": "IP address", "Address": "mail address", "HostPort": "address and port", "Source": "source",
		"int": "number", "string": "string", "bool": "true or false", "float64": "number",
		"Conditions": "table", "BaseURL": "URL", "URL": "URL", "TimeOfDay": "time of day", "Zone": "DNS list", "Action": "action",
		"Limit": "limit", "TableSource": "part of a table", "Scores": "table of numbers", "Texts": "table of strings",
	}
	elem := elemOf(t)
	name := names[elem.Name()]
	switch {
	case elem == reflect.TypeFor[TableSource]():
		return "table"
	case isTable(elem):
		return "table"
	case t.Kind() == reflect.Slice:
		return "list of " + strings.TrimSuffix(strings.Replace(name+"s", "address and ports", "addresses and ports", 1), "")
	}
	return name
}

func writeRules(t *testing.T, b *strings.Builder) {
	t.Helper()
	b.WriteString(rulesHead)
	file, err := parser.ParseFile(token.NewFileSet(), "rules.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, s := range gen.Specs {
			spec := s.(*ast.ValueSpec)
			name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			severity := "error"
			if strings.HasPrefix(spec.Names[0].Name, "ruleWarn") {
				severity = "warning"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, severity, paragraph(spec.Comment.Text()))
		}
	}
}

const referenceHead = `# Configuration

Gatepost reads one file, in [TOML](https://toml.io). ` + "`gatepost check -c FILE`" + ` reads it, and every file that it names, and reports
everything that is wrong in one run; ` + "`gatepost serve -c FILE`" + ` does the same before it starts, and starts only without an error.
After a change, ` + "`systemctl reload gatepost`" + ` (SIGHUP) loads the file again: all of it, or, with an error, nothing.

The smallest useful file has ` + "`hostname`, `data_dir`" + `, one [[listener]], one [[domain]] and one [[transport]]; a commented one for an
organisation with its own mail server is [gatepost.example.toml](gatepost.example.toml).

How values are written:

| type | | examples |
|---|---|---|
| size | bytes, with a unit: B, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of 1000) | ` + "`\"50MiB\"`, `\"1.5GB\"`" + ` |
| rate | a size per second | ` + "`\"500B/s\"`" + ` |
| duration | ms, s, m (minutes), h, d | ` + "`\"90s\"`, `\"2d\"`, `\"1h30m\"`" + ` |
| network | address/length, or one address | ` + "`\"10.0.0.0/8\"`, `\"2001:db8::/32\"`, `\"192.0.2.7\"`" + ` |
| address and port | an IPv6 address stands in brackets before a port | ` + "`\"10.0.0.5:25\"`, `\"[::1]:25\"`, `\"mail.example.com\"`" + ` |
| socket | of a service on this host or another | ` + "`\"unix:/run/clamav/clamd.ctl\"`, `\"tcp:10.0.0.7:3310\"`" + ` |
| path | relative to the directory of the configuration file | ` + "`\"/etc/gatepost/key.pem\"`, `\"key.pem\"`" + ` |
| name | letters, digits, ".", "_" and "-" | ` + "`\"inbound\"`" + ` |
| domain | international ones as people write them, or as A-labels | ` + "`\"example.com\"`, `\"bücher.example\"`" + ` |
| limit | how much in how much time: a number, or a size, then s, m, h or d, or a number of these; as much may come at once, unless ` + "`burst N`" + ` stands behind | ` + "`\"60/m\"`, `\"100MiB/h\"`, `\"1000/h burst 100\"`" + ` |
| source | ` + "`ldap:NAME`, `http:NAME`, `callout` (the transport is asked), or `file:PATH`" + `: a text file with one entry in a line: user@domain, user (in every domain that uses the file) or @domain (everyone there); # begins a comment. A file that has changed is read again within 10 seconds; one that has become bad is not, and the log says so | ` + "`\"file:recipients.txt\"`" + ` |

[name] is a section of which there is one; [[name]] one of which there may be several.

This page is made from the source of Gatepost; don't edit it.

## Top of the file

These keys stand before the first [section].

`

// filtersHead is what a filter is made of; ´ stands for a backquote.
const filtersHead = `
## Conditions of a filter

All keys of ´when´ must hold. A key's value is one or a list, of which one must fit; ´file:PATH´ in it stands for a list in a text
file, one in a line, # begins a comment. Expressions are those of RE2 (https://github.com/google/re2/wiki/Syntax), and fit anywhere
in the text unless ´^´ and ´$´ bind them; write them in single quotes, in which a backslash is a backslash. Every way to read a message
is looked at: each name of an attachment, also of those in archives, each instance of a header field, raw and decoded.

| condition | holds where | value |
|---|---|---|
| ´attachment_name´ | an attachment has such a name | expressions; case does not matter |
| ´attachment_type´ | an attachment is of such a type, by its content or by what the message says | ´"image/png"´, ´"video/*"´ or ´"/expression/"´ |
| ´encrypted´ | an attachment can be opened by its recipient only | true or false |
| ´macro´ | a document has macros | true or false |
| ´ambiguous´ | programs read the message in different ways | true or false |
| ´attachments_over´ | there are more attachments | number |
| ´header.NAME´ | a header field of this name is such; ´""´ where it is there at all | expressions |
| ´subject´ | the subject is such | expressions |
| ´body´ | the text, as a reader sees it, is such | expressions |
| ´url´ | a link is such | expressions, or ´file:PATH´ with domains |
| ´sender´ | the envelope's sender is one of these | ´"user@domain"´, ´"domain"´, ´".domain"´ (with all below it), ´"user@"´ (in every domain), ´"<>"´ or ´"/expression/"´ |
| ´recipient´ | the recipient is one of these; the filter then concerns those only | as for sender |
| ´recipients_over´ | there are more recipients | number |
| ´client´ | the client is one of these | address, network, ´"name.example"´, ´".example"´ or ´"/expression/"´ |
| ´helo´ | the client calls itself so | as for the client's name |
| ´user´ | this user has logged in | ´"name"´, ´"*"´ for any, ´""´ for none |
| ´listener´ | the message came in there | names of [[listener]] |
| ´size_over´ | the message is larger | size |
| ´finding´ | a block before this one found such a thing | ´"dmarc:fail"´, ´"clamav:*"´ |
| ´time´ | it is such a time, in this host's time zone | ´"Mon-Fri 08:00-18:00"´, ´"22:00-06:00"´, ´"Sat,Sun"´ |
| ´not´ | none of these holds | table of conditions, or list of such tables |
| ´any´ | at least one of these holds | table of conditions, or list of such tables |

## Actions of a filter

| action | | what is done |
|---|---|---|
| ´deliver´ | final | delivered; no later filter or block holds it, but for a virus |
| ´mark´ | | delivered with marks in the header |
| ´quarantine´ | final | kept, and not delivered |
| ´discard´ | final | accepted, and thrown away |
| ´reject´ | final | refused with 5xx and the text in ´reply´ |
| ´defer´ | final | refused with 4xx: the client tries again |
| ´redirect:ADDRESS´ | | delivered there, and not to the recipient |
| ´copy:ADDRESS´ | | delivered there, too |
| ´strip´ | | the attachment is replaced by a notice; the message as it came is kept in the quarantine |
| ´score:N´ | | counts for the block score |
| ´header:"X-Foo: bar"´ | | the field is added |
| ´subject:"[EXTERNAL] "´ | | put in front of the subject |
| ´disclaimer:NAME´ | | the text of that [[disclaimer]] is put at the end |
`

const blocksHead = `
## Blocks of a flow

Each stands in ´blocks´ of a [[flow]] as ´{ use = "NAME", key = value, … }´, with these keys besides ´use´, ´label´, ´mode´ and
´timeout´. A block belongs to a stage; some have a namesake in another.
`

// stageHeads begin the blocks of a stage; ´ stands for a backquote.
var stageHeads = map[string]string{
	stageConnect: `They look at the client before it is greeted. The first ´reject´ (5xx), ´defer´ (4xx, the client tries again) or ´drop´ (the
connection is closed) ends the flow; ´deliver´ goes on. Scores add up, and go on into the flows of the later stages. All blocks of this
stage and of the stage recipient, but for trust, tarpit and bandwidth, have these keys as well:
`,
	stageAuth: `They say whether a name and a password belong together: yes, no, no such user, or that they can't tell. The first yes or no
holds; after "no such user" and "can't tell" the next one is asked.
`,
	stageRecipient: `They look at each recipient, when client, HELO, sender and recipient are known. What holds at connect holds here.
`,
	stageContent: `They look at the message. Actions: ´deliver´ goes on, and at most counts something; ´mark´ delivers with marks in the header;
´quarantine´, ´discard´, ´reject´ (5xx) and ´defer´ (4xx, the client tries again) are final. Where the message was accepted already
(´processing = "queued"´), the quarantine takes what would be refused.
`,
}

const rulesHead = `
## What is checked

` + "`gatepost check --json`" + ` names the rule of each problem. An error keeps Gatepost from starting, a warning does not.

| rule | | meaning |
|---|---|---|
`
