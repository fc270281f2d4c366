package config

import (
	"net/netip"
	"time"

	"gatepost/internal/dns/dnslist"
	"gatepost/internal/mail"
	"gatepost/internal/policy/rate"
)

// StageActs are the keys that all blocks of the stages connect and recipient have,
// but for those that decide nothing. An action that is "" is the block's own
// (flow.StageDefaults).
type StageActs struct {
	// What follows where the block has something against the client or the recipient.
	// With a `score` and without this key it only counts.
	OnMatch mail.Action `toml:"on_match" default:"(each block has its own)" enum:"deliver,defer,reject,drop"`
	// Another name of on_match.
	Action mail.Action `toml:"action" default:"(on_match)" enum:"deliver,defer,reject,drop"`
	// What follows where it can't tell: a name server, a list or a service does not
	// answer.
	OnUnknown mail.Action `toml:"on_unknown" default:"(each block has its own)" enum:"deliver,defer,reject,drop"`
	// What a match counts, besides what the block itself says.
	Score float64 `toml:"score" default:"0" min:"-1000" max:"1000"`
	// Text after the code, for reject and defer. Empty: a general one.
	Reply string `toml:"reply" default:"" example:"Ask postmaster@example.com"`
}

// AccessBlock knows clients by lists. What is more specific decides: a network before a
// name, a name before an ASN, an ASN before a country, of networks and names the
// longest; of equals the allow list. A client on an allow list is not looked at by the
// blocks that follow.
type AccessBlock struct {
	// Who may: networks, addresses, names of hosts ("mail.example.com") or of domains
	// with all hosts below (".example.com"). A name counts only where it leads back to
	// the client's address.
	Allow []string `toml:"allow" default:"[]" example:"[\"192.0.2.0/24\", \".example.org\"]"`
	// Who may not.
	Deny []string `toml:"deny" default:"[]" example:"[\"198.51.100.7\"]"`
	// More of allow, one entry in a line, perhaps with a reason behind it; # begins a
	// comment. Read again when it changes.
	AllowFile Path `toml:"allow_file" default:"" example:"allowed.txt"`
	// More of deny, in the same form.
	DenyFile Path `toml:"deny_file" default:"" example:"denied.txt"`
	// Countries that may, by codes of two letters.
	CountriesAllow []string `toml:"countries_allow" default:"[]" example:"[\"DE\", \"AT\"]"`
	// Countries that may not.
	CountriesDeny []string `toml:"countries_deny" default:"[]" example:"[\"ZZ\"]"`
	// Networks that may, by the number of their operator.
	ASNAllow []int `toml:"asn_allow" default:"[]" min:"1" max:"4294967295" example:"[64496]"`
	// Networks that may not.
	ASNDeny []int `toml:"asn_deny" default:"[]" min:"1" max:"4294967295" example:"[64511]"`
	// MaxMind DB files with countries and ASNs; the first that knows a client counts.
	MMDBFile []Path `toml:"mmdb_file" default:"[]" single:"true" example:"[\"GeoLite2-Country.mmdb\", \"GeoLite2-ASN.mmdb\"]"`
}

// RateBlock bounds how much comes in how much time. At connect it counts connections, and
// the rest of what a client has used up; at recipient messages and recipients. At
// least one of the limits must be there.
type RateBlock struct {
	// By what is counted. What is not known yet at the stage can't be counted by.
	Per string `toml:"per" default:"network" enum:"address,network,sender,user,recipient_domain"`
	// Connections, in a flow of the stage connect.
	Connections rate.Limit `toml:"connections" default:"" example:"60/m"`
	// Transactions that were begun.
	Messages rate.Limit `toml:"messages" default:"" example:"600/h"`
	// Recipients that were named.
	Recipients rate.Limit `toml:"recipients" default:"" example:"1000/h burst 100"`
	// Size of the messages that were taken.
	Bytes rate.Limit `toml:"bytes" default:"" example:"100MiB/h"`
	// Commands that were answered 5xx.
	Errors rate.Limit `toml:"errors" default:"" example:"20/m"`
	// Logins that failed.
	Logins rate.Limit `toml:"logins" default:"" example:"10/m"`
	// How many bits of an IPv4 address make one network.
	IPv4Prefix int `toml:"ipv4_prefix" default:"24" min:"1" max:"32"`
	// How many bits of an IPv6 address make one network.
	IPv6Prefix int `toml:"ipv6_prefix" default:"64" min:"1" max:"128"`
	// How many clients, senders, … are remembered; 16 to 40 bytes each.
	MaxKeys int `toml:"max_keys" default:"1000000" min:"100" max:"100000000"`
}

// ConcurrencyBlock bounds the sessions of one network at once.
type ConcurrencyBlock struct {
	// By what is counted.
	Per string `toml:"per" default:"network" enum:"network,address"`
	// Sessions at once.
	Limit int `toml:"limit" required:"true" min:"1" max:"1000000" example:"20"`
	// How many bits of an IPv4 address make one network.
	IPv4Prefix int `toml:"ipv4_prefix" default:"24" min:"1" max:"32"`
	// How many bits of an IPv6 address make one network.
	IPv6Prefix int `toml:"ipv6_prefix" default:"64" min:"1" max:"128"`
}

// DNSBLBlock asks DNS lists about the client, all at once. Their scores are added. Each
// list is watched by its test points: one that lists everybody or nobody is left out, and
// the log says so.
type DNSBLBlock struct {
	// "zone", "zone=address" or "zone=address-last" for the answers that count, then
	// "*score" for what a listing counts (3 where nothing is said; below 0 for lists of
	// the good).
	Zones []dnslist.Zone `toml:"zones" required:"true" example:"[\"zen.example.org=127.0.0.2-11*3\", \"dnswl.example.org*-2\"]"`
	// From this sum on on_match follows. Absent: the lists only count, unless on_match
	// is written.
	Threshold *float64 `toml:"threshold" min:"-1000" max:"1000" example:"3"`
	// Ask for the reason of a listing, too, for log and history.
	Texts bool `toml:"texts" default:"false"`
	// How often the lists' test points are looked at.
	MonitorEvery time.Duration `toml:"monitor_every" default:"30m" min:"1m" max:"7d"`
}

// PregreetBlock is about clients that talked before the banner was complete: see
// pregreet_delay of [[listener]].
type PregreetBlock struct{}

// ClientReputationBlock scores the client's network by what came from it before. Without
// a threshold it only counts.
type ClientReputationBlock struct {
	// The highest score that it gives.
	MaxScore float64 `toml:"max_score" default:"2.5" min:"0" max:"1000"`
	// The lowest.
	MinScore float64 `toml:"min_score" default:"-2.5" min:"-1000" max:"0"`
	// From this score on on_match follows.
	Threshold *float64 `toml:"threshold" min:"-1000" max:"1000" example:"2"`
}

// TarpitBlock makes clients wait for the banner: delay, and per_point more for each point
// of score above when_score.
type TarpitBlock struct {
	// How long.
	Delay time.Duration `toml:"delay" default:"0s" min:"0s" max:"4m" example:"5s"`
	// From this score on. Absent: every client, and points count from 0.
	WhenScore *float64 `toml:"when_score" min:"-1000" max:"1000" example:"2"`
	// How much longer for each point.
	PerPoint time.Duration `toml:"per_point" default:"0s" min:"0s" max:"4m" example:"1s"`
	// How long at most. Clients give up after five minutes.
	Max time.Duration `toml:"max" default:"30s" min:"1s" max:"4m"`
}

// BandwidthBlock slows connections down.
type BandwidthBlock struct {
	// How fast mail may come in.
	Limit Rate `toml:"limit" required:"true" min:"500B/s" max:"1TiB/s" example:"64KiB/s"`
	// From this score on. Absent: every client.
	WhenScore *float64 `toml:"when_score" min:"-1000" max:"1000" example:"2"`
}

// TrustBlock remembers clients that no block had anything against, so that the blocks
// that follow do not look at them again for a while.
type TrustBlock struct {
	// For how long.
	For time.Duration `toml:"for" default:"1d" min:"1m" max:"90d"`
	// How many clients are remembered, at 100 bytes each.
	MaxClients int `toml:"max_clients" default:"200000" min:"100" max:"100000000"`
}

// HeloBlock looks at the name that the client introduces itself with. Each oddity has a
// score; on_match follows from any. Authenticated and trusted clients are spared.
type HeloBlock struct {
	// Ask the DNS whether the name is known there.
	Resolve bool `toml:"resolve" default:"true"`
	// Scores of single oddities, instead of the usual ones.
	Scores Scores `toml:"scores" min:"-1000" max:"1000" example:"{ unresolvable = 2 }"`
}

// SPFBlock asks whether the sender's domain allows the client. It has no on_match, but
// an action for each answer; on_unknown is for a DNS that does not answer.
type SPFBlock struct {
	// The domain says that the client may not.
	OnFail mail.Action `toml:"on_fail" default:"reject" enum:"deliver,defer,reject"`
	// It says that the client probably may not.
	OnSoftFail mail.Action `toml:"on_softfail" default:"deliver" enum:"deliver,defer,reject"`
	// Its record can't be understood.
	OnPermError mail.Action `toml:"on_permerror" default:"deliver" enum:"deliver,defer,reject"`
}

// SenderDomainBlock asks whether the sender's domain exists and takes mail.
type SenderDomainBlock struct {
	// Networks that are private to others and in use here: mail servers there are fine.
	Private []netip.Prefix `toml:"private" default:"[]" example:"[\"10.0.0.0/8\"]"`
	// Mail servers that are looked at.
	MaxHosts int `toml:"max_hosts" default:"5" min:"1" max:"50"`
	// Scores of single oddities, instead of the usual ones.
	Scores Scores `toml:"scores" min:"-1000" max:"1000" example:"{ no-host = 2 }"`
}

// OwnDomainSpoofBlock finds strangers that write from one of your domains.
type OwnDomainSpoofBlock struct {
	// Who may: senders, domains, addresses and networks of clients.
	Except []string `toml:"except" default:"[]" example:"[\"news@example.com\", \"192.0.2.0/24\"]"`
	// Do not spare clients that the domain's SPF record allows.
	Strict bool `toml:"strict" default:"false"`
}

// VerifySenderBlock asks the mail servers of the sender's domain whether they would take
// a bounce.
type VerifySenderBlock struct {
	// How callouts are made.
	Callout CalloutParams `toml:"callout"`
	// Also ask servers on loopback and in private networks. Whoever may send you mail may
	// then make this host connect to them.
	AllowPrivate bool `toml:"allow_private" default:"false"`
}

// VerifyRecipientBlock asks whether the recipient exists: the domain's `recipients`, or
// where it has none the mail server behind.
type VerifyRecipientBlock struct {
	// How callouts are made.
	Callout CalloutParams `toml:"callout"`
}

// CalloutParams is how a mail server is asked, and how long its answer is remembered.
type CalloutParams struct {
	// How many addresses are tried.
	MaxHosts int `toml:"max_hosts" default:"2" min:"1" max:"20"`
	// Callouts at once.
	Sessions int `toml:"sessions" default:"100" min:"1" max:"10000"`
	// How many of them to one address.
	PerTarget int `toml:"per_target" default:"4" min:"1" max:"1000"`
	// How many in a minute to one address. 0: 60 for senders, 600 for recipients.
	PerMinute int `toml:"per_minute" default:"0" min:"0" max:"1000000"`
	// How long an address is remembered that exists.
	PositiveFor time.Duration `toml:"positive_for" default:"24h" min:"1s" max:"30d"`
	// How long one that does not.
	NegativeFor time.Duration `toml:"negative_for" default:"2h" min:"1s" max:"30d"`
	// How long, that nobody could say.
	UnknownFor time.Duration `toml:"unknown_for" default:"2m" min:"1s" max:"1d"`
	// How long, whether a domain takes any address.
	CatchAllFor time.Duration `toml:"catch_all_for" default:"24h" min:"1s" max:"30d"`
	// How many answers are remembered, at 300 bytes each.
	CacheSize int `toml:"cache_size" default:"50000" min:"100" max:"10000000"`
}

// GreylistBlock makes strangers try again.
type GreylistBlock struct {
	// How long the first attempt waits.
	Delay time.Duration `toml:"delay" default:"5m" min:"1s" max:"1d"`
	// Until when the second must have come.
	Window time.Duration `toml:"window" default:"28h" min:"1m" max:"30d"`
	// For how long the same client, sender and recipient pass afterwards.
	Keep time.Duration `toml:"keep" default:"36d" min:"1h" max:"3650d"`
	// How many must have passed until all of the client's network or domain passes. 0:
	// that never happens.
	AutoAllow int `toml:"auto_allow" default:"5" min:"0" max:"100000"`
	// How many bits of an IPv4 address make one network.
	IPv4Prefix int `toml:"ipv4_prefix" default:"24" min:"8" max:"32"`
	// How many bits of an IPv6 address make one network.
	IPv6Prefix int `toml:"ipv6_prefix" default:"64" min:"16" max:"128"`
	// Networks that never wait, besides those of `gatepost greylist allow`.
	Allow []netip.Prefix `toml:"allow" default:"[]" example:"[\"192.0.2.0/24\"]"`
}

// HarvestBlock finds clients that guess recipients: their answers get slower with each
// recipient that does not exist, and then they are sent away for a while. Authenticated
// and trusted clients are spared.
type HarvestBlock struct {
	// After how many unknown recipients the answers of a session are held back.
	SlowAfter int `toml:"slow_after" default:"3" min:"1" max:"100000"`
	// After how many it matches.
	SessionLimit int `toml:"session_limit" default:"20" min:"1" max:"100000"`
	// The same as slow_after, for all sessions of a network.
	NetworkSlowAfter int `toml:"network_slow_after" default:"30" min:"1" max:"1000000"`
	// The same as session_limit, for all sessions of a network.
	NetworkLimit int `toml:"network_limit" default:"100" min:"1" max:"1000000"`
	// After how long what a network did counts half.
	HalfLife time.Duration `toml:"half_life" default:"15m" min:"1s" max:"7d"`
	// How much longer each further unknown recipient makes the wait.
	Delay time.Duration `toml:"delay" default:"1s" min:"10ms" max:"1m"`
	// How long it is at most.
	MaxDelay time.Duration `toml:"max_delay" default:"10s" min:"10ms" max:"1m"`
	// How many bits of an IPv4 address make one network.
	IPv4Prefix int `toml:"ipv4_prefix" default:"24" min:"8" max:"32"`
	// How many bits of an IPv6 address make one network.
	IPv6Prefix int `toml:"ipv6_prefix" default:"64" min:"16" max:"128"`
	// Networks that are spared: a relay that does not know your users.
	Except []netip.Prefix `toml:"except" default:"[]" example:"[\"192.0.2.25\"]"`
}

// AuthFileBlock knows users by a file.
type AuthFileBlock struct {
	// "name password" in a line, the password plain or a hash (argon2id, bcrypt, salted
	// SHA), and behind it, if you like, what the user may send as. Read again when it
	// changes.
	File Path `toml:"file" required:"true" example:"users.txt"`
}

// AuthSMTPBlock logs in at the hosts of a transport, with the name and the password that
// the user gave.
type AuthSMTPBlock struct {
	// Which, of kind smtp.
	Transport Name `toml:"transport" required:"true" example:"exchange"`
	// Send passwords without TLS, too.
	Cleartext bool `toml:"cleartext" default:"false"`
	// Logins at once.
	Sessions int `toml:"sessions" default:"20" min:"1" max:"10000"`
	// How long a yes is remembered; "0s": not at all.
	CacheFor time.Duration `toml:"cache_for" default:"1m" min:"0s" max:"1h"`
}

// AuthLDAPBlock binds at a directory, with the password that the user gave.
type AuthLDAPBlock struct {
	// Name of the [[ldap]].
	LDAP Name `toml:"ldap" required:"true" example:"ad"`
	// The name to bind as; %s is what the user gave, %u what stands before its @, %d
	// what stands behind. Empty: the entry is searched for.
	BindAs string `toml:"bind_as" default:"" example:"uid=%u,ou=people,dc=example,dc=com"`
	// How the entry is searched for. Empty: by the filter of [[ldap]].
	Filter string `toml:"filter" default:"" example:"(&(objectClass=person)(mail=%s))"`
	// The attribute with the name under which the user is counted. Empty: what the user
	// gave.
	UserAttribute string `toml:"user_attribute" default:"" example:"uid"`
	// The attributes with the addresses that the user may send as.
	SenderAttributes []string `toml:"sender_attributes" default:"[\"mail\", \"mailAlternateAddress\", \"proxyAddresses\"]"`
}

// AuthHTTPBlock asks a web service.
type AuthHTTPBlock struct {
	// Name of the [[http]]. Its places are {user} (what the user gave), {local},
	// {domain}, {password}, {client}, {helo}, {listener} and {tls}.
	HTTP Name `toml:"http" required:"true" example:"api"`
}

// ScriptBlock runs a script of your own.
type ScriptBlock struct {
	// The file; it has a function that is called like the stage.
	File Path `toml:"file" required:"true" example:"recipient.star"`
	// One character, or a few, that stand in front of its label in the administration.
	Icon string `toml:"icon" default:"" example:"🏠"`
	// What one call may cost.
	Limits ScriptLimits `toml:"limits"`

	// Source is what the file held when it was checked.
	Source string
}

// ContentScriptBlock runs a script of your own.
type ContentScriptBlock struct {
	// The file; it has a function that is called content.
	File Path `toml:"file" required:"true" example:"content.star"`
	// One character, or a few, that stand in front of its label in the administration.
	Icon string `toml:"icon" default:"" example:"🏠"`
	// The script failed, or took too long.
	OnUnknown mail.Action `toml:"on_unknown" default:"defer" enum:"deliver,mark,quarantine,discard,reject,defer"`
	// What one call may cost.
	Limits ScriptLimits `toml:"limits"`

	// Source is what the file held when it was checked.
	Source string
}

// ScriptLimits are what one call of a script may cost. A call that exceeds one ends as
// unknown.
type ScriptLimits struct {
	// How much is computed; a step is about 10 ns.
	Steps int `toml:"steps" default:"200000" min:"1000" max:"1000000000"`
	// How long is computed, questions to others not counted.
	Time time.Duration `toml:"time" default:"1s" min:"1ms" max:"1m"`
	// What all values together may take.
	Memory Size `toml:"memory" default:"32MiB" min:"64KiB" max:"1GiB"`
	// How long one question to others may take.
	Lookup time.Duration `toml:"lookup" default:"10s" min:"100ms" max:"1m"`
	// How many questions.
	Lookups int `toml:"lookups" default:"50" min:"1" max:"10000"`
}

func (*AccessBlock) isBlock()           {}
func (*RateBlock) isBlock()             {}
func (*ConcurrencyBlock) isBlock()      {}
func (*DNSBLBlock) isBlock()            {}
func (*PregreetBlock) isBlock()         {}
func (*ClientReputationBlock) isBlock() {}
func (*TarpitBlock) isBlock()           {}
func (*BandwidthBlock) isBlock()        {}
func (*TrustBlock) isBlock()            {}
func (*HeloBlock) isBlock()             {}
func (*SPFBlock) isBlock()              {}
func (*SenderDomainBlock) isBlock()     {}
func (*OwnDomainSpoofBlock) isBlock()   {}
func (*VerifySenderBlock) isBlock()     {}
func (*VerifyRecipientBlock) isBlock()  {}
func (*GreylistBlock) isBlock()         {}
func (*HarvestBlock) isBlock()          {}
func (*AuthFileBlock) isBlock()         {}
func (*AuthSMTPBlock) isBlock()         {}
func (*AuthLDAPBlock) isBlock()         {}
func (*AuthHTTPBlock) isBlock()         {}
func (*ScriptBlock) isBlock()           {}
func (*ContentScriptBlock) isBlock()    {}
