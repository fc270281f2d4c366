package config

import (
	"net/netip"
	"time"
)

// Transport is a way to a next hop.
type Transport struct {
	// Name in [[domain]], logs, metrics and queue commands.
	Name Name `toml:"name" required:"true" example:"exchange"`
	// smtp: the hosts listed. mx: the mail exchangers of the recipient's
	// domain. original: the server that a diverted connection was meant for. lmtp: a
	// mailbox server. maildir: a directory. discard: nowhere.
	Kind string `toml:"kind" required:"true" enum:"smtp,mx,original,lmtp,maildir,discard"`
	// Next hops: host or host:port, port 25 for smtp (465 with `implicit_tls`) and 24 for
	// lmtp. For lmtp also "unix:/path".
	Hosts []HostPort `toml:"hosts" default:"[]" kinds:"smtp,lmtp" example:"[\"10.0.0.5:25\", \"10.0.0.6:25\"]"`
	// Which host is taken: failover the first that works, round-robin each in
	// turn, least-sessions the one with the fewest connections from us.
	Balance string `toml:"balance" default:"failover" enum:"failover,round-robin,least-sessions" kinds:"smtp,lmtp"`
	// What share each host has with `balance = "round-robin"` and "least-sessions", in the
	// order of `hosts`; [3, 1] gives the first one three times as much as the second.
	// Empty: all the same. A name with several addresses counts once for each of them in
	// what is delivered from the queue.
	Weights []int `toml:"weights" default:"[]" min:"1" max:"1000" kinds:"smtp,lmtp" example:"[3, 1]"`
	// off: never. opportunistic: if offered, with any certificate. require: no
	// mail without it. verify: the certificate must be valid for the host or be
	// the one in tls_ca_file. dane: as TLSA records say (needs a validating
	// resolver in [dns]).
	TLS string `toml:"tls" default:"opportunistic" enum:"off,opportunistic,require,verify,dane" kinds:"smtp,mx,original,lmtp"`
	// Connections begin with TLS instead of STARTTLS (SMTPS), and `tls` says what the
	// certificate must be: any with "opportunistic" and "require". Hosts with port 465 are
	// always spoken to in this way, unless `tls = "off"`.
	ImplicitTLS bool `toml:"implicit_tls" default:"false" kinds:"smtp"`
	// Keep to what domains publish about the encryption of their mail (MTA-STS): with
	// `tls = "opportunistic"`, "require" or "dane". Their own hosts only, under verified
	// TLS, or no mail; DANE goes before it.
	MTASTS bool `toml:"mta_sts" default:"true" kinds:"mx"`
	// The certificates or certificate authorities that `tls = "verify"` trusts,
	// PEM. Empty: those of the system.
	TLSCAFile Path `toml:"tls_ca_file" default:"" kinds:"smtp,mx,original,lmtp" example:"exchange-ca.pem"`
	// The name that the next hop's certificate must be for with `tls = "verify"`, where
	// it is not the host's: for hosts that are given by address. Empty: the host's name.
	TLSName DomainName `toml:"tls_name" default:"" kinds:"smtp,original,lmtp" example:"mail.example.com"`
	// How to log in at the next hop. Absent: not at all.
	Auth *Auth `toml:"auth" kinds:"smtp,lmtp"`
	// When delivery is tried again, and when it is given up.
	Retry Retry `toml:"retry"`
	// How long the next hop may take, and how many of its hosts are tried.
	Timeouts Timeouts `toml:"timeouts" kinds:"smtp,mx,original,lmtp"`
	// Connections to one host at once.
	Sessions int `toml:"sessions" default:"20" min:"1" max:"10000"`
	// Connections to one host at once for domains with `delivery = "proxy"`; beyond it
	// clients wait, and are then told to try again.
	ProxySessions int `toml:"proxy_sessions" default:"1000" min:"1" max:"100000" kinds:"smtp,original"`
	// What becomes of mail with `delivery = "proxy"` while no host answers. defer: the
	// client is told to try again. adopt: it is taken into the queue, as with
	// `delivery = "relay"`.
	IfUnreachable string `toml:"if_unreachable" default:"defer" enum:"defer,adopt" kinds:"smtp,original"`
	// How the hosts are told, for mail with `delivery = "proxy"`, who the client is.
	// none: by the Received field only. xclient, xforward: by that command of Postfix,
	// where it is offered. proxy-v1, proxy-v2: by a PROXY header, which the hosts must
	// expect.
	ClientIdentity string `toml:"client_identity" default:"none" enum:"none,xclient,xforward,proxy-v1,proxy-v2" kinds:"smtp,original"`
	// Messages over one connection.
	MessagesPerSession int `toml:"messages_per_session" default:"100" min:"1" max:"100000" kinds:"smtp,mx,original,lmtp"`
	// Local address to connect from. Empty: the system chooses.
	SourceAddress netip.Addr `toml:"source_address" default:"" kinds:"smtp,mx,original,lmtp" example:"192.0.2.25"`
	// Connect from the client's own address, so that servers see who it is; needs a
	// listener with `interception = "tproxy"`, and CAP_NET_ADMIN.
	SpoofClient bool `toml:"spoof_client" default:"false" kinds:"original"`
	// Names of the [[dkim]] keys that sign what your own people send here: for each
	// message those whose domain is nearest to that of its author (From), two where an
	// RSA and an Ed25519 key have the same one. Mail of strangers is never signed.
	DKIM []Name `toml:"dkim" default:"[]" kinds:"smtp,mx,original,lmtp" example:"[\"example.com\"]"`
	// Name of the [[dkim]] key that seals (ARC) what strangers sent and is passed on
	// here, so that the next host can know what was found when it came. Needs the block
	// authres in the content flow. Empty: nothing is sealed.
	ARC Name `toml:"arc" default:"" kinds:"smtp,mx,original,lmtp" example:"example.com"`
	// Ask for mail exchangers in another way than usual.
	Lookup Lookup `toml:"lookup" kinds:"mx"`
	// Port of the mail exchangers.
	Port int `toml:"port" default:"25" min:"1" max:"65535" kinds:"mx"`
	// The maildir; made if it does not exist. "{user}", "{domain}" and "{address}"
	// in it stand for the parts of the recipient's address.
	Path Path `toml:"path" default:"" kinds:"maildir" example:"/var/mail/{domain}/{user}"`
}

// Timeouts is how long a next hop may take at each stage, and how many hosts are
// tried. The defaults are the minimums of RFC 5321 where it names one: shorter
// ones lose mail to servers that are merely slow.
type Timeouts struct {
	// To open the connection.
	Connect time.Duration `toml:"connect" default:"30s" min:"1s" max:"10m"`
	// To send its banner.
	Banner time.Duration `toml:"banner" default:"5m" min:"1s" max:"1h"`
	// To answer EHLO, HELO or LHLO.
	Hello time.Duration `toml:"hello" default:"5m" min:"1s" max:"1h"`
	// For STARTTLS with its handshake.
	TLS time.Duration `toml:"tls" default:"1m" min:"1s" max:"1h"`
	// To answer each step of a login.
	Auth time.Duration `toml:"auth" default:"5m" min:"1s" max:"1h"`
	// To answer MAIL.
	Mail time.Duration `toml:"mail" default:"5m" min:"1s" max:"1h"`
	// To answer RCPT.
	Rcpt time.Duration `toml:"rcpt" default:"5m" min:"1s" max:"1h"`
	// To answer DATA.
	Data time.Duration `toml:"data" default:"2m" min:"1s" max:"1h"`
	// To take a block of the message (at most 64 KiB).
	Block time.Duration `toml:"block" default:"3m" min:"1s" max:"1h"`
	// To answer the final dot. If it is too short, messages arrive twice.
	Done time.Duration `toml:"done" default:"10m" min:"1s" max:"1h"`
	// To answer QUIT; nobody needs that answer.
	Quit time.Duration `toml:"quit" default:"2s" min:"100ms" max:"5m"`
	// How fast it must take a message, on average, after the first block's time.
	MinRate Rate `toml:"min_rate" default:"500B/s" min:"1B/s" max:"1MiB/s"`
	// How long a connection waits for the next message before it is closed.
	Idle time.Duration `toml:"idle" default:"5s" min:"100ms" max:"5m"`
	// How long a host that can't be reached is left alone while there are others;
	// it doubles with each failure, up to rest_max.
	Rest time.Duration `toml:"rest" default:"5s" min:"1s" max:"1h"`
	// The longest such rest.
	RestMax time.Duration `toml:"rest_max" default:"5m" min:"1s" max:"1d"`
	// How many addresses one attempt tries.
	MaxHosts int `toml:"max_hosts" default:"5" min:"1" max:"100"`
}

// Auth is how a transport logs in.
type Auth struct {
	// PLAIN and LOGIN send the password itself: use them with TLS only.
	Mechanism string `toml:"mechanism" required:"true" enum:"CRAM-MD5,LOGIN,PLAIN"`
	// The user's name.
	Username string `toml:"username" required:"true" example:"gw"`
	// File whose first line is the password; readable by Gatepost only.
	PasswordFile Path `toml:"password_file" required:"true" example:"exchange.pw"`
}

// Retry is what happens while a next hop does not take a message.
type Retry struct {
	// Time to wait after each failed attempt; the last one repeats.
	Delays []time.Duration `toml:"delays" default:"[\"1m\", \"5m\", \"15m\", \"30m\", \"1h\"]" min:"1s" max:"7d"`
	// Age at which a message is given up.
	GiveUpAfter time.Duration `toml:"give_up_after" default:"2d" min:"1s" max:"30d"`
	// What then happens: dsn reports it to the sender, discard only logs it.
	OnGiveUp string `toml:"on_give_up" default:"dsn" enum:"dsn,discard"`
	// Age at which the sender is told, once, that the message is late. "0s": never.
	// The default holds only where give_up_after is longer.
	WarnAfter time.Duration `toml:"warn_after" default:"4h" min:"0s" max:"30d"`
}

// Lookup changes the MX lookup of a transport.
type Lookup struct {
	// Suffix that is appended to each name that is asked for: with
	// "mx.internal", mail for example.com asks for example.com.mx.internal.
	Zone DomainName `toml:"zone" default:"" example:"mx.internal"`
	// Name servers to ask instead of those in [dns].
	Query []HostPort `toml:"query" default:"[]" port:"53" example:"[\"10.0.0.53:53\"]"`
}
