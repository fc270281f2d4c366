package config

import (
	"time"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/scan/filter"
)

// Filter is a rule about messages of the administrator's own. The block filters
// applies them in the order of the file: actions that are not final add up, and the
// first final one ends it.
type Filter struct {
	// Name in logs, in the quarantine and in `names` of a block filters.
	Name string `toml:"name" required:"true" example:"no executables"`
	// Which mail it is for. inbound: for one of your domains. outbound: from trusted
	// clients to elsewhere. pop3: what users fetch from POP3 servers.
	Direction string `toml:"direction" default:"any" enum:"inbound,outbound,pop3,any"`
	// What must hold, all of it: see conditions of a filter below.
	When Conditions `toml:"when" required:"true" example:"{ attachment_name = '(?i)\\.(exe|scr)$' }"`
	// What is done: see actions of a filter below. One, or a list of which at most one
	// is final.
	Then []string `toml:"then" required:"true" single:"true" example:"\"quarantine\""`
	// Text after the code, for reject and defer. Empty: a general one.
	Reply string `toml:"reply" default:"" example:"We do not take programs by mail"`

	// Compiled is the filter with its conditions, Actions are those of Then.
	Compiled *filter.Filter
	Actions  []flow.FilterAction
}

// Conditions are the `when` of a filter as the file has them: strings, bools,
// int64s, lists ([]any) and tables (map[string]any).
type Conditions map[string]any

// Flow is an ordered list of blocks that looks at mail at one stage and decides
// about it. A listener or domain names it in `flows`.
type Flow struct {
	// Name in `flows` of a [[listener]] or [[domain]], in logs and in the quarantine.
	Name Name `toml:"name" required:"true" example:"inbound"`
	// connect: a client is there, and was not greeted yet. auth: it gave a name and a
	// password. recipient: at each RCPT. content: when the message is there.
	Stage string `toml:"stage" required:"true" enum:"connect,auth,recipient,content"`
	// enforce does what the blocks decide. observe only writes down what it would have
	// done.
	Mode string `toml:"mode" default:"enforce" enum:"enforce,observe"`
	// At connect: a reject or defer waits for the first recipient, so that the log knows
	// whose mail it was, and users who log in are spared.
	DelayReject bool `toml:"delay_reject" default:"false"`
	// What looks at the client or the message. They decide in this order: the first
	// action that is final holds, but in a content flow a virus found further down
	// overrules the deliver of a filter. The block structure stands at the end of every
	// content flow that does not name it. In a flow of the stage auth they are asked until
	// one says yes or no.
	Blocks []Block `toml:"blocks" required:"true"`
}

// Block is one element of a flow.
type Block struct {
	// Which one; each has parameters of its own, and belongs to a stage: see below.
	Use string `toml:"use" required:"true" example:"filters"`
	// What this block is called in reports, where there are several of a kind.
	Label string `toml:"label" default:"" example:"second opinion"`
	// How long it may take; then its answer is unknown. Some blocks have a default of
	// their own.
	Timeout time.Duration `toml:"timeout" default:"(what is left of scan_timeout)" min:"100ms" max:"9m"`

	// observe only writes down what this block would have done. It does so in any case
	// where that is the mode of the flow.
	Mode string `toml:"mode" default:"enforce" enum:"enforce,observe"`

	// Params are the parameters of the block: a *StructureBlock where Use is
	// "structure", and so on. A reputation is a *ClientReputationBlock at connect and a
	// *ReputationBlock at content, a script is a *ContentScriptBlock at content.
	Params BlockParams
	// Acts are nil but for blocks of the stages connect and recipient that decide.
	Acts *StageActs
}

// BlockParams is the pointer to one of the structs in this file and in stagetypes.go
// whose names end in Block.
type BlockParams interface{ isBlock() }

// StructureBlock judges how a message is built: what can be read in several ways, what
// could not be looked into and what is dangerous in itself.
type StructureBlock struct {
	// Programs read the message in different ways, as a trick to hide something does.
	OnAmbiguous mail.Action `toml:"on_ambiguous" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// An archive or document that only its recipient can open.
	OnEncrypted mail.Action `toml:"on_encrypted" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// An archive or document that can't be read.
	OnDamaged mail.Action `toml:"on_damaged" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// It exceeds one of [limits] for scanning.
	OnLimit mail.Action `toml:"on_limit" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// A document with macros.
	OnMacro mail.Action `toml:"on_macro" default:"deliver" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// The message could not be read.
	OnUnknown mail.Action `toml:"on_unknown" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
}

// AuthResBlock checks SPF, DKIM, DMARC and ARC, and writes Authentication-Results.
type AuthResBlock struct {
	// What a failure of DMARC means. score: it only counts. policy: what the sender's
	// domain asks for is done. quarantine: the same, but no mail is refused. off: it is
	// not looked at.
	DMARC string `toml:"dmarc" default:"score" enum:"score,policy,quarantine,off"`
	// Domains of forwarders whose ARC seals are believed where DMARC fails.
	ARCTrusted []DomainName `toml:"arc_trusted" default:"[]" example:"[\"lists.example.org\"]"`
	// The DNS does not answer.
	OnUnknown mail.Action `toml:"on_unknown" default:"deliver" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// How many DKIM signatures of a message are verified.
	MaxSignatures int `toml:"max_signatures" default:"8" min:"1" max:"100"`
}

// FiltersBlock applies the [[filter]] tables.
type FiltersBlock struct {
	// Only these. Empty: all that are for the direction of the message.
	Names []string `toml:"names" default:"[]" example:"[\"no executables\"]"`
	// The conditions of a filter could not be evaluated.
	OnUnknown mail.Action `toml:"on_unknown" default:"defer" enum:"deliver,mark,quarantine,discard,reject,defer"`
}

// SendersBlock looks whether the recipient, its domain or the administrators have allowed
// or blocked the sender, see docs/senders.md. Whom they allowed is delivered without asking
// the blocks behind this one, but for virus scanners.
type SendersBlock struct {
	// A sender who is blocked.
	OnMatch mail.Action `toml:"on_match" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// Allow only who provably sent the message: DMARC, DKIM or SPF of the sender's domain
	// passed in a block authres. Without, whoever writes a name that is allowed gets through.
	RequireAuth bool `toml:"require_auth" default:"true"`
	// The store does not answer.
	OnUnknown mail.Action `toml:"on_unknown" default:"deliver" enum:"deliver,mark,quarantine,discard,reject,defer"`
}

// ClamAVBlock asks the virus scanner of [clamav].
type ClamAVBlock struct {
	// A virus.
	OnMatch mail.Action `toml:"on_match" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// The scanner does not answer, or not completely.
	OnUnknown mail.Action `toml:"on_unknown" default:"defer" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// It says that something is encrypted (AlertEncrypted in clamd.conf).
	OnEncrypted mail.Action `toml:"on_encrypted" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// It says that something exceeds its limits (AlertExceedsMax), or the message is
	// larger than max_size of [clamav].
	OnLimit mail.Action `toml:"on_limit" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// Something that looks dangerous without being a known virus (Heuristics.*).
	OnHeuristic mail.Action `toml:"on_heuristic" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
}

// BayesBlock scores a message by what was learned from others.
type BayesBlock struct {
	// Score of a message that is certainly spam; less certain ones score less.
	SpamScore float64 `toml:"spam_score" default:"6.0" min:"0" max:"1000"`
	// Score of one that certainly is not.
	HamScore float64 `toml:"ham_score" default:"-2.0" min:"-1000" max:"0"`
	// The store does not answer. That too little was learned is not unknown: there is
	// no score then.
	OnUnknown mail.Action `toml:"on_unknown" default:"deliver" enum:"deliver,mark,quarantine,discard,reject,defer"`
}

// ReputationBlock scores the client's network and the sender's domain by what came
// from them before.
type ReputationBlock struct {
	// The highest score that it gives.
	MaxScore float64 `toml:"max_score" default:"2.5" min:"0" max:"1000"`
	// The lowest.
	MinScore float64 `toml:"min_score" default:"-2.5" min:"-1000" max:"0"`
}

// LinksBlock looks at the links in a message: whether they are listed, and whether they
// pretend to be others.
type LinksBlock struct {
	// DNS lists of domains: "zone", "zone=address" or "zone=address-last" for the answers
	// that count, then "*score" for what a listing counts.
	Zones []Zone `toml:"zones" default:"[]" example:"[\"dbl.example.org=127.0.1.2-99*4\"]"`
	// Questions to the DNS about one message.
	MaxLookups int `toml:"max_lookups" default:"50" min:"0" max:"1000"`
}

// MilterBlock asks a milter, as Postfix and Sendmail do.
type MilterBlock struct {
	// Where it listens: "unix:/path" or "tcp:host:port".
	Address HostPort `toml:"address" required:"true" port:"socket" example:"unix:/run/opendkim/opendkim.sock"`
	// It wants the message rejected or discarded.
	OnMatch mail.Action `toml:"on_match" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// It does not answer, or with a temporary failure.
	OnUnknown mail.Action `toml:"on_unknown" default:"defer" enum:"deliver,mark,quarantine,discard,reject,defer"`
}

// RspamdBlock asks an rspamd over HTTP.
type RspamdBlock struct {
	// Its normal worker.
	URL URL `toml:"url" required:"true" schemes:"http,https" example:"http://127.0.0.1:11333"`
	// File whose first line is its password, if it has one.
	PasswordFile Path `toml:"password_file" default:"" example:"rspamd.pw"`
	// It wants the message rejected. With deliver its score counts and nothing else.
	OnMatch mail.Action `toml:"on_match" default:"deliver" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// It does not answer.
	OnUnknown mail.Action `toml:"on_unknown" default:"deliver" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// What its score is multiplied by.
	Scale float64 `toml:"scale" default:"1.0" min:"0" max:"100"`
}

// SpamdBlock asks a spamd of SpamAssassin.
type SpamdBlock struct {
	// Where it listens: "unix:/path" or "tcp:host:port".
	Address HostPort `toml:"address" required:"true" port:"socket" example:"tcp:127.0.0.1:783"`
	// The user whose preferences it takes. Empty: its default.
	User string `toml:"user" default:"" example:"gatepost"`
	// It does not answer.
	OnUnknown mail.Action `toml:"on_unknown" default:"deliver" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// What its score is multiplied by.
	Scale float64 `toml:"scale" default:"1.0" min:"0" max:"100"`
}

// ICAPBlock asks a virus scanner or the like that speaks ICAP.
type ICAPBlock struct {
	// Host, port (1344 where none is given) and service.
	URL URL `toml:"url" required:"true" schemes:"icap" example:"icap://127.0.0.1:1344/avscan"`
	// It blocks the message or an attachment.
	OnMatch mail.Action `toml:"on_match" default:"quarantine" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// It does not answer, or in a way that says neither.
	OnUnknown mail.Action `toml:"on_unknown" default:"defer" enum:"deliver,mark,quarantine,discard,reject,defer"`
}

// ScoreBlock adds up the scores of the blocks before it, those of filters among them.
type ScoreBlock struct {
	// From this sum on the message is delivered with marks. 0: never.
	Mark float64 `toml:"mark" default:"0" min:"0" max:"1000" example:"5"`
	// From this sum on it goes into the quarantine. 0: never.
	Quarantine float64 `toml:"quarantine" default:"0" min:"0" max:"1000" example:"8"`
	// From this sum on it is refused. 0: never.
	Reject float64 `toml:"reject" default:"0" min:"0" max:"1000" example:"15"`
	// What is put in front of the subject of a message that is marked.
	SubjectTag string `toml:"subject_tag" default:"" example:"[SPAM] "`
}

func (*StructureBlock) isBlock()  {}
func (*AuthResBlock) isBlock()    {}
func (*FiltersBlock) isBlock()    {}
func (*SendersBlock) isBlock()    {}
func (*ClamAVBlock) isBlock()     {}
func (*BayesBlock) isBlock()      {}
func (*ReputationBlock) isBlock() {}
func (*LinksBlock) isBlock()      {}
func (*MilterBlock) isBlock()     {}
func (*RspamdBlock) isBlock()     {}
func (*SpamdBlock) isBlock()      {}
func (*ICAPBlock) isBlock()       {}
func (*ScoreBlock) isBlock()      {}
