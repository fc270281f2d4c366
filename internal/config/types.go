package config

import (
	"net/netip"
	"time"

	"gatepost/internal/mail"
)

// Config is a whole configuration file. The comments on fields are written for
// administrators; tags: default, enum (allowed values), min and max, example,
// required, port (default port of a host:port), kinds (transport kinds to which
// the key applies), any ("*" is allowed).
type Config struct {
	// The name of this host, as it stands in the banner, in EHLO, in Received
	// fields and in delivery reports. It should resolve to this host's address.
	Hostname DomainName `toml:"hostname" default:"(the host's name)" example:"gw.example.com"`
	// Where the spool, the queue and the command socket live. The directory is
	// made at the first start, readable by Gatepost only. It must be on a local
	// disk, and belongs to one running Gatepost at a time.
	DataDir Path `toml:"data_dir" required:"true" example:"/var/lib/gatepost"`
	// Where `mail.log`, `smtp_proxy.log` and `pop_proxy.log` are written. Empty: everything goes
	// to standard error, where systemd's journal takes it.
	LogDir Path `toml:"log_dir" default:"" example:"/var/log/gatepost"`
	// How much is logged.
	LogLevel string `toml:"log_level" default:"info" enum:"debug,info,warn,error"`
	// Plain lines for people, or one JSON object per line.
	LogFormat string `toml:"log_format" default:"text" enum:"text,json"`
	// A log file that has grown to this size is set aside and a new one begun.
	LogMaxSize Size `toml:"log_max_size" default:"100MiB" min:"1MiB"`
	// How many log files that were set aside are kept, of each log.
	LogKeep int `toml:"log_keep" default:"10" min:"1" max:"1000"`
	// Who gets mail for `postmaster` without a domain, reports that can't be
	// delivered to anyone else, and alarms.
	Postmaster mail.Address `toml:"postmaster" default:"(postmaster at the first [[domain]])" example:"postmaster@example.com"`

	Admin      Admin      `toml:"admin"`
	Store      Store      `toml:"store"`
	TLS        TLS        `toml:"tls"`
	DNS        DNS        `toml:"dns"`
	Limits     Limits     `toml:"limits"`
	Queue      Queue      `toml:"queue"`
	ClamAV     ClamAV     `toml:"clamav"`
	Bayes      Bayes      `toml:"bayes"`
	Quarantine Quarantine `toml:"quarantine"`
	History    History    `toml:"history"`
	Users      Users      `toml:"users"`
	Rewrite    Rewrite    `toml:"rewrite"`
	SRS        SRS        `toml:"srs"`
	TLSReports TLSReports `toml:"tls_reports"`

	Listeners   []Listener   `toml:"listener"`
	Domains     []Domain     `toml:"domain"`
	Transports  []Transport  `toml:"transport"`
	DKIM        []DKIM       `toml:"dkim"`
	LDAP        []LDAP       `toml:"ldap"`
	HTTP        []HTTP       `toml:"http"`
	Disclaimers []Disclaimer `toml:"disclaimer"`
	Filters     []Filter     `toml:"filter"`
	Flows       []Flow       `toml:"flow"`
}

// Store is where records live that several nodes may share: the index of the
// quarantine with its messages, what was trained, reputation. Mail on its way is
// not there but in data_dir.
type Store struct {
	// Empty: an SQLite database in data_dir. For several nodes the URL of a
	// PostgreSQL database, "postgres://user@host/database", with the options of
	// libpq after a "?". While it is away, mail is accepted, scanned and delivered
	// all the same, and what was to be written is caught up with afterwards.
	URL string `toml:"url" default:"" example:"postgres://gatepost@db.example.com/gatepost?sslmode=verify-full"`
	// File whose first line is the password for the database; readable by
	// Gatepost only.
	PasswordFile Path `toml:"password_file" default:"" example:"store.pw"`
	// The name of this node, different on each node of one database.
	Node Name `toml:"node" default:"(hostname)" example:"gw1"`
}

// TLS is the certificate of every listener that does not name its own.
type TLS struct {
	// Certificate with its chain, PEM. Empty: a self-signed certificate is made
	// at the first start, which is enough for other mail servers, not for
	// people's mail programs.
	CertFile Path `toml:"cert_file" default:"" example:"/etc/gatepost/cert.pem"`
	// Private key of that certificate.
	KeyFile Path `toml:"key_file" default:"" example:"/etc/gatepost/key.pem"`
	// The oldest version of TLS that listeners speak.
	MinVersion string `toml:"min_version" default:"1.2" enum:"1.2,1.3"`
}

// DNS is how names are resolved.
type DNS struct {
	// Name servers to ask, in this order. Empty: those of /etc/resolv.conf. For
	// `tls = "dane"` use a validating resolver on this host.
	Servers []HostPort `toml:"servers" default:"[]" port:"53" example:"[\"127.0.0.1:53\"]"`
	// How long one question may take over all servers.
	Timeout time.Duration `toml:"timeout" default:"5s" min:"100ms" max:"1m"`
}

// Limits is what clients may cost at most. The defaults suit a busy gateway.
type Limits struct {
	// The largest message that is accepted; announced in EHLO.
	MaxMessageSize Size `toml:"max_message_size" default:"50MiB" min:"64KiB" max:"2GiB"`
	// Recipients of one message; more get 452 and are sent in another transaction.
	MaxRecipients int `toml:"max_recipients" default:"1000" min:"100" max:"50000"`
	// Sessions at once, over all listeners; more get 421.
	MaxSessions int `toml:"max_sessions" default:"10000" min:"1" max:"1000000"`
	// Percent of the memory limit of the process (GOMEMLIMIT, or that of its cgroup) in use
	// above which new sessions get 421, until there is more room. 0: never. Without a limit
	// there is nothing to measure by.
	ShedMemory int `toml:"shed_memory" default:"90" min:"0" max:"100"`
	// Sessions at once from one client (IPv4 address or IPv6 /64).
	MaxSessionsPerIP int `toml:"max_sessions_per_ip" default:"50" min:"1" max:"1000000"`
	// How long a client may take for its next command, and how long it may pause
	// while it sends a message.
	CommandTimeout time.Duration `toml:"command_timeout" default:"5m" min:"1s" max:"1h"`
	// How long one message may take to come in, in all.
	DataTimeout time.Duration `toml:"data_timeout" default:"10m" min:"1s" max:"1h"`
	// How fast message data must come in, on average, after the first 30 seconds.
	MinDataRate Rate `toml:"min_data_rate" default:"500B/s" min:"1B/s" max:"1MiB/s"`
	// How long a client may be slower than min_data_rate before it counts.
	RateGrace time.Duration `toml:"rate_grace" default:"2m" min:"1s" max:"1h"`
	// How long a client may take to accept an answer.
	WriteTimeout time.Duration `toml:"write_timeout" default:"1m" min:"1s" max:"1h"`
	// After a message was refused, how long the rest of it is read and thrown
	// away, so that the client gets its answer; then the connection is closed.
	DrainTimeout time.Duration `toml:"drain_timeout" default:"30s" min:"1s" max:"10m"`
	// The longest command line that is understood, in bytes.
	MaxCommandLine int `toml:"max_command_line" default:"2048" min:"1024" max:"65536"`
	// How long the answer to an error is held back, once a client has made half
	// of max_errors.
	ErrorDelay time.Duration `toml:"error_delay" default:"1s" min:"1ms" max:"1m"`
	// How many bits of an IPv4 address make one client, for max_sessions_per_ip.
	IPv4Prefix int `toml:"ipv4_prefix" default:"32" min:"8" max:"32"`
	// How many bits of an IPv6 address make one client.
	IPv6Prefix int `toml:"ipv6_prefix" default:"64" min:"16" max:"128"`
	// How long a TLS handshake or a PROXY header may take.
	HandshakeTimeout time.Duration `toml:"handshake_timeout" default:"30s" min:"1s" max:"1m"`
	// Commands with an error before the session is ended with 421; from half of
	// it on the answers are slowed down.
	MaxErrors int `toml:"max_errors" default:"20" min:"1" max:"1000"`
	// Commands that bring no mail forward (NOOP, RSET, VRFY, …) before 421.
	MaxJunkCommands int `toml:"max_junk_commands" default:"100" min:"10" max:"100000"`
	// Received fields in a message before it is refused as looping.
	MaxHops int `toml:"max_hops" default:"50" min:"10" max:"1000"`
	// The largest header section of a message.
	MaxHeaderSize Size `toml:"max_header_size" default:"1MiB" min:"64KiB" max:"16MiB"`
	// How deep parts of a message may lie in parts. What lies deeper is not looked
	// at, and the message is treated as on_limit of the block structure says; the same
	// goes for the next four.
	MIMEDepth int `toml:"mime_depth" default:"50" min:"5" max:"200"`
	// Parts of one message, all ways to read it together.
	MIMEParts int `toml:"mime_parts" default:"2000" min:"50" max:"100000"`
	// How deep archives may lie in archives.
	ArchiveDepth int `toml:"archive_depth" default:"8" min:"1" max:"50"`
	// Files in all archives and documents of a message together.
	ArchiveFiles int `toml:"archive_files" default:"5000" min:"1" max:"1000000"`
	// Their size together, unpacked.
	ArchiveBytes Size `toml:"archive_bytes" default:"500MiB" min:"1MiB" max:"16GiB"`
	// How long a whole content flow may take. What has not answered by then counts
	// as unknown. Clients wait for the answer ten minutes at least, so this must be
	// less.
	ScanTimeout time.Duration `toml:"scan_timeout" default:"60s" min:"1s" max:"9m"`
	// How much decoded text of a message is looked at for words and links.
	ScanText Size `toml:"scan_text" default:"1MiB" min:"16KiB" max:"64MiB"`
	// A larger message is not scanned but treated as on_limit of the block structure
	// says.
	MaxScanSize Size `toml:"max_scan_size" default:"(max_message_size)" min:"64KiB" max:"2GiB" example:"30MiB"`
	// Where files from archives are unpacked that are too large for memory; emptied
	// at the start.
	ScanTemp Path `toml:"scan_temp" default:"(tmp in data_dir)" example:"/var/tmp/gatepost"`
	// How many messages are scanned at once from the incoming queue, for listeners
	// with `processing = "queued"`. 0: twice the number of CPUs.
	Scanners int `toml:"scanners" default:"0" min:"0" max:"10000"`
	// Disk space in data_dir that is left free: below it new mail gets 452 4.3.1.
	FreeDisk Size `toml:"free_disk" default:"500MiB" min:"0B"`
}

// Queue is how much the delivery of queued mail may cost.
type Queue struct {
	// Deliveries under way at once, over all next hops.
	MaxActive int `toml:"max_active" default:"1000" min:"1" max:"100000"`
	// Memory for messages that are delivered right after they came in; those
	// beyond it are read from the disk again.
	Memory Size `toml:"memory" default:"64MiB" min:"1MiB" max:"16GiB"`
	// Delivery reports per hour to one sender about one next hop; beyond it the
	// failure is only logged, so that nobody is flooded whose address was forged.
	MaxReportsPerHour int `toml:"max_reports_per_hour" default:"20" min:"1" max:"100000"`
	// A report returns the whole message, where its sender asks for that, only up to
	// this size; else its headers.
	MaxReturn Size `toml:"max_return" default:"1MiB" min:"1KiB" max:"100MiB"`
	// How long a next hop that does not answer rests at most, until it is tried again.
	MaxRest time.Duration `toml:"max_rest" default:"10m" min:"1s" max:"1d"`
}

// ClamAV is the virus scanner that the block clamav asks: a clamd of version 1.0 or
// later, on this host or another. Gatepost shows it the EICAR test file at the start
// and again and again, so that one that lost its signatures is noticed.
type ClamAV struct {
	// Where clamd listens: "unix:/path" or "tcp:host:port". Empty: there is none,
	// and a flow that names clamav is an error.
	Address HostPort `toml:"address" default:"" port:"socket" example:"unix:/run/clamav/clamd.ctl"`
	// How long one scan may take, where the block does not say.
	Timeout time.Duration `toml:"timeout" default:"30s" min:"1s" max:"9m"`
	// What is larger is not sent to clamd, which counts as on_limit. Not more than
	// clamd's StreamMaxLength, which is 100 MiB in recent versions.
	MaxSize Size `toml:"max_size" default:"100MiB" min:"64KiB" max:"4GiB"`
	// Connections to clamd at once; not more than its MaxThreads.
	Sessions int `toml:"sessions" default:"8" min:"1" max:"1000"`
	// How often clamd must find the EICAR test file.
	CanaryInterval time.Duration `toml:"canary_interval" default:"1m" min:"1s" max:"1d"`
}

// Listener is one service that accepts mail.
type Listener struct {
	// Name in logs, metrics and in `listener` of a [[domain]].
	Name Name `toml:"name" required:"true" example:"inbound"`
	// What is spoken.
	Protocol string `toml:"protocol" default:"smtp" enum:"smtp,pop3"`
	// Addresses and ports to listen on. "[::]:25" is IPv6 only, "0.0.0.0:25"
	// IPv4 only, ":25" both.
	Address []HostPort `toml:"address" required:"true" port:"required" example:"[\"0.0.0.0:25\", \"[::]:25\"]"`
	// off: no encryption. starttls: offered (STLS in POP3). required: no mail, and no
	// login of POP3, without it. implicit: encrypted from the first byte (port 465, 995).
	TLS string `toml:"tls" default:"starttls" enum:"off,starttls,required,implicit"`
	// Certificate for this listener; with its chain, PEM. Empty: that of [tls].
	TLSCertFile Path `toml:"tls_cert_file" default:"" example:"/etc/gatepost/mx.pem"`
	// Private key of that certificate.
	TLSKeyFile Path `toml:"tls_key_file" default:"" example:"/etc/gatepost/mx.key"`
	// What becomes of a bare CR or LF and of NUL in a message: normalize
	// repairs the line end, reject refuses the message. Neither ever ends a message.
	LineEndings string `toml:"line_endings" default:"normalize" enum:"normalize,reject"`
	// Networks of clients that may send to any destination. Empty: nobody may;
	// mail for your own domains needs no trust.
	TrustedNetworks []netip.Prefix `toml:"trusted_networks" default:"[]" example:"[\"127.0.0.0/8\", \"10.0.0.0/8\"]"`
	// The mechanisms by which users may log in, asked by the flow of the stage auth.
	// Without TLS they are not offered, unless auth_without_tls is true. Empty: nobody
	// logs in.
	Auth []string `toml:"auth" default:"[]" enum:"PLAIN,LOGIN" example:"[\"PLAIN\", \"LOGIN\"]"`
	// Name of a transport that mail is passed through to (`delivery = "proxy"`): clients log
	// in at its server. What it offers is offered, its words come back, and what they send
	// there goes through the session in which they have logged in. Instead of auth.
	AuthUpstream Name `toml:"auth_upstream" default:"" example:"exchange"`
	// Let users log in without TLS, so that everybody on the way can read their
	// passwords.
	AuthWithoutTLS bool `toml:"auth_without_tls" default:"false"`
	// Networks of load balancers that put a PROXY header (version 1 or 2) in
	// front. It is then required, and the client's address in it is believed.
	ProxyProtocolFrom []netip.Prefix `toml:"proxy_protocol_from" default:"[]" example:"[\"10.0.0.7/32\"]"`
	// How the firewall of this host diverts connections to here that were meant for
	// other servers. redirect: it translates their destination. tproxy: it hands them
	// over as they are, which needs CAP_NET_ADMIN. `gatepost firewall` makes its rules.
	Interception string `toml:"interception" default:"none" enum:"none,redirect,tproxy"`
	// The destination ports that `gatepost firewall` diverts to here.
	InterceptPorts []int `toml:"intercept_ports" default:"([25]; with tls = \"implicit\" [465]; for pop3 [110] and [995])" min:"1" max:"65535" example:"[25, 587]"`
	// Networks of mail proxies whose XCLIENT command is believed.
	XClientFrom []netip.Prefix `toml:"xclient_from" default:"[]" example:"[\"10.0.0.8/32\"]"`
	// What becomes of clients that talk before the banner: score notes it for
	// the flows, defer answers 421, reject answers 554.
	Pregreet string `toml:"pregreet" default:"score" enum:"score,defer,reject"`
	// How long the last line of the banner is held back, to see which clients
	// talk before their turn. "0s": not at all.
	PregreetDelay time.Duration `toml:"pregreet_delay" default:"0s" min:"0s" max:"1m"`
	// What becomes of clients that send message data before they are told to:
	// as for pregreet.
	Pipelining string `toml:"pipelining" default:"score" enum:"score,defer,reject"`
	// inline: a message is scanned before its last line is answered, so that it can be
	// refused. queued: it is made durable and answered, then scanned; what would be
	// refused goes into the quarantine, as nobody is left to refuse it to.
	Processing string `toml:"processing" default:"inline" enum:"inline,queued"`
	// What is answered when some recipients of a message with `delivery = "proxy"` took
	// it and others did not, and the client cannot be told of each. queue: the message is
	// taken; it is delivered later to those who could not take it now, and the sender gets
	// a report about those who refused it. defer: the client is told to try again, and
	// those who took it get it twice.
	Mixed string `toml:"mixed" default:"queue" enum:"queue,defer"`
	// For POP3, the server that users fetch their mail from: "host" or "host:port". login:
	// the client names it, by logging in as user%host[:port]. original: where a diverted
	// connection wanted to go.
	Upstream string `toml:"upstream" default:"" example:"pop.example.com:110"`
	// With `upstream = "login"`, the servers that clients may name: "host", "host:port", or
	// "*.example.com" for all names below a domain. Without a port it is 110, or 995 with
	// `upstream_tls = "implicit"`.
	UpstreamHosts []string `toml:"upstream_hosts" default:"[]" example:"[\"pop.example.com\", \"*.example.net:1110\"]"`
	// How the server is spoken to. off: without encryption. opportunistic: with TLS if it
	// offers that, whoever it is. starttls: with TLS, and its certificate is verified.
	// implicit: the same from the first byte (port 995).
	UpstreamTLS string `toml:"upstream_tls" default:"off" enum:"off,opportunistic,starttls,implicit"`
	// Certificates that may have signed the server's, or the server's own. Empty: those
	// that this host trusts.
	UpstreamTLSCAFile Path `toml:"upstream_tls_ca_file" default:"" example:"pop-ca.pem"`
	// How long a POP3 server may be silent that has been asked something.
	UpstreamTimeout time.Duration `toml:"upstream_timeout" default:"5m" min:"1s" max:"1h"`
	// How long a POP3 server may take to greet.
	ConnectTimeout time.Duration `toml:"connect_timeout" default:"20s" min:"1s" max:"5m"`
	// How long a client of POP3 may be silent. RFC 1939 wants ten minutes at least.
	IdleTimeout time.Duration `toml:"idle_timeout" default:"10m" min:"1s" max:"1d"`
	// How long a client of POP3 waits for a message until it gets the first line of the
	// answer and a header line, so that it does not hang up.
	WaitAfter time.Duration `toml:"wait_after" default:"15s" min:"1s" max:"10m"`
	// How often it then gets another one, and the server a sign of life.
	WaitInterval time.Duration `toml:"wait_interval" default:"15s" min:"1s" max:"10m"`
	// What becomes of a message in a POP3 mailbox that is larger than max_message_size of
	// [limits]: refuse leaves it there, pass gives it to the client without looking at it.
	TooLarge string `toml:"too_large" default:"refuse" enum:"refuse,pass"`
	// Whether clients may delete a message from a POP3 mailbox of which they got a notice
	// instead. Its original is in the quarantine.
	DeleteReplaced bool `toml:"delete_replaced" default:"true"`
	// Names of the [[flow]] for each stage. Without a content flow nothing is scanned.
	Flows Flows `toml:"flows"`
}

// Flows names a flow for each stage.
type Flows struct {
	// The flow that decides about clients.
	Connect Name `toml:"connect" default:"" example:"ip-policy"`
	// The flow that knows users.
	Auth Name `toml:"auth" default:"" example:"users"`
	// The flow that decides about recipients.
	Recipient Name `toml:"recipient" default:"" example:"recipients"`
	// The flow that decides about messages.
	Content Name `toml:"content" default:"" example:"inbound"`
}

// DomainFlows names a flow for each stage at which the domain is known.
type DomainFlows struct {
	// The flow that decides about recipients.
	Recipient Name `toml:"recipient" default:"" example:"recipients"`
	// The flow that decides about messages.
	Content Name `toml:"content" default:"" example:"inbound"`
}

// Domain is a domain whose mail is yours to take, and where that mail goes.
type Domain struct {
	// The domain. Its subdomains are not included. "*" is any other domain: it
	// serves only clients in trusted_networks, never strangers. Nor may strangers
	// use addresses with a route in front of the @, such as user%other.example@example.com.
	Name DomainName `toml:"name" required:"true" any:"true" example:"example.com"`
	// The listener to which this entry applies, or "*" for all. An entry for
	// the listener comes before one for all listeners.
	Listener Name `toml:"listener" default:"*" any:"true" example:"inbound"`
	// Other domains that are treated in the same way, with the same recipients.
	Aliases []DomainName `toml:"aliases" default:"[]" example:"[\"example.net\"]"`
	// relay: queue the message and deliver it. proxy: pass it through while the
	// client waits, so that the client gets the answers of the mail server itself; for
	// a transport of kind smtp or original.
	Delivery string `toml:"delivery" default:"relay" enum:"relay,proxy"`
	// Name of the [[transport]] that takes the mail to its next hop.
	Transport Name `toml:"transport" required:"true" example:"exchange"`
	// Where the valid recipients are listed: `file:PATH`, `ldap:NAME` of an [[ldap]],
	// `http:NAME` of an [[http]], `callout` (the transport is asked). A recipient is
	// known if one of them lists it, anyone else gets 550 5.1.1, and 451 as long as one
	// of them can't be asked. Empty: every recipient is accepted, which makes bounces of
	// mail to addresses that do not exist. Mail to the postmaster is always accepted;
	// where no list has him, the one at the top of the file gets it.
	Recipients []Source `toml:"recipients" default:"[]" example:"[\"file:recipients.txt\"]"`
	// Who gets the mail for recipients that nobody knows, instead of 550. Empty: nobody.
	CatchAll mail.Address `toml:"catch_all" default:"" example:"info@example.com"`
	// Character between a user's name and an extension: with "+", the recipient
	// user+anything is known if user is. Empty: no extensions.
	RecipientDelimiter string `toml:"recipient_delimiter" default:"" example:"+"`
	// Names of the [[flow]] for mail to this domain, in the place of the listener's.
	Flows DomainFlows `toml:"flows"`
}

// DKIM is a key that signs outgoing mail.
type DKIM struct {
	// Name in `dkim` of a [[transport]].
	Name Name `toml:"name" required:"true" example:"example.com"`
	// The domain that signs: d= in the signature.
	Domain DomainName `toml:"domain" required:"true" example:"example.com"`
	// Other domains that the same key signs for, each with its own record in DNS at
	// SELECTOR._domainkey.OTHER: aliases of the domain, mostly. Subdomains are included
	// in any case.
	AlsoFor []DomainName `toml:"also_for" default:"[]" example:"[\"example.net\"]"`
	// The selector: the public key stands in DNS at SELECTOR._domainkey.DOMAIN.
	Selector string `toml:"selector" required:"true" example:"s1"`
	// Private key, PEM, RSA (2048 bits or more) or Ed25519. `gatepost dkim new`
	// makes one and prints the DNS record.
	KeyFile Path `toml:"key_file" required:"true" example:"dkim-s1.pem"`
}
