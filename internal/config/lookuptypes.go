package config

import "time"

// LDAP is a directory that recipients, users and rewritten addresses are looked up in.
type LDAP struct {
	// Name in `recipients` ("ldap:NAME"), in a block auth-ldap and in [rewrite].
	Name Name `toml:"name" required:"true" example:"ad"`
	// The servers, tried in this order: "ldap://host", "ldaps://host:636" or
	// "ldapi:///path". One, or a list; all must hold the same.
	URL []string `toml:"url" required:"true" single:"true" example:"\"ldap://10.0.0.5\""`
	// Encrypt ldap:// before anything is said, or give up.
	StartTLS bool `toml:"starttls" default:"false"`
	// The certificates or certificate authorities that are trusted, PEM. Empty: those of
	// the system.
	TLSCAFile Path `toml:"tls_ca_file" default:"" example:"ldap-ca.pem"`
	// The name that the server's certificate must be for. Empty: that of the URL.
	TLSName DomainName `toml:"tls_name" default:"" example:"dc1.example.com"`
	// Who searches. Empty: an anonymous user.
	BindDN string `toml:"bind_dn" default:"" example:"cn=reader,dc=example,dc=com"`
	// File whose first line is the password of bind_dn; readable by Gatepost only.
	PasswordFile Path `toml:"password_file" default:"" example:"ldap.pw"`
	// Where searches begin.
	Base string `toml:"base" default:"" example:"dc=example,dc=com"`
	// How deep they go: the entry itself, the entries right below it, or all below it.
	Scope string `toml:"scope" default:"sub" enum:"base,one,sub"`
	// What is searched for. %s is the address, or the name of the user who logs in, %u
	// what stands before its @, %d what stands behind, %% a percent sign. What is put in
	// is escaped.
	Filter string `toml:"filter" default:"" example:"(proxyAddresses=smtp:%s)"`
	// For [rewrite]: the attributes whose values are the result.
	Attributes []string `toml:"attributes" default:"[]" example:"[\"mail\"]"`
	// How long a connection may take, with its encryption and login.
	ConnectTimeout time.Duration `toml:"connect_timeout" default:"5s" min:"100ms" max:"1m"`
	// How long each search or bind may take after that.
	Timeout time.Duration `toml:"timeout" default:"10s" min:"100ms" max:"1m"`
	// Connections at once.
	Sessions int `toml:"sessions" default:"10" min:"1" max:"1000"`
	// How long an unused connection is kept.
	Idle time.Duration `toml:"idle" default:"1m" min:"1s" max:"1h"`
	// How many entries a search may find.
	MaxEntries int `toml:"max_entries" default:"1000" min:"1" max:"1000000"`
	// How long an answer is kept for recipients and [rewrite] that has something in it.
	CacheFor time.Duration `toml:"cache_for" default:"10m" min:"0s" max:"1d"`
	// How long one is kept that has nothing.
	NegativeCacheFor time.Duration `toml:"negative_cache_for" default:"1m" min:"0s" max:"1d"`
}

// HTTP is a web service that recipients, users and rewritten addresses are looked up in.
type HTTP struct {
	// Name in `recipients` ("http:NAME"), in a block auth-http and in [rewrite].
	Name Name `toml:"name" required:"true" example:"api"`
	// Where it is asked, http or https. What it is asked about stands in braces behind
	// the host, and is encoded: {address}, {local} and {domain} for recipients and
	// [rewrite], {user}, {password} and others for a block auth-http.
	URL string `toml:"url" required:"true" example:"https://users.example.com/auth?username={user}&password={password}"`
	// How it is asked.
	Method string `toml:"method" default:"GET" enum:"GET,POST"`
	// What is sent with POST; the same may stand in braces as in url.
	Body string `toml:"body" default:"" example:"user={user}&password={password}"`
	// What the body is.
	ContentType string `toml:"content_type" default:"application/x-www-form-urlencoded" enum:"application/x-www-form-urlencoded,application/json"`
	// Header fields of the request.
	Headers Texts `toml:"headers" example:"{ Accept = \"text/plain\" }"`
	// File whose first line goes with the request as a bearer token.
	TokenFile Path `toml:"token_file" default:"" example:"api.token"`
	// The statuses that mean yes.
	OKStatus []int `toml:"ok_status" default:"[200]" min:"200" max:"599"`
	// What the body must be for a yes, white space around it aside. Empty: anything.
	OKBody string `toml:"ok_body" default:"" example:"OK"`
	// It is enough that the body begins with ok_body.
	OKPrefix bool `toml:"ok_prefix" default:"false"`
	// How long a request may take.
	Timeout time.Duration `toml:"timeout" default:"10s" min:"100ms" max:"1m"`
	// Whether it may be on this host or in a private network.
	AllowPrivate bool `toml:"allow_private" default:"false"`
	// The certificates or certificate authorities that are trusted, PEM. Empty: those of
	// the system.
	TLSCAFile Path `toml:"tls_ca_file" default:"" example:"api-ca.pem"`
	// How large an answer may be.
	MaxBody Size `toml:"max_body" default:"64KiB" min:"1B" max:"16MiB"`
	// Connections at once.
	Sessions int `toml:"sessions" default:"20" min:"1" max:"1000"`
	// How long a yes is kept for recipients and [rewrite].
	CacheFor time.Duration `toml:"cache_for" default:"10m" min:"0s" max:"1d"`
	// How long a no is kept.
	NegativeCacheFor time.Duration `toml:"negative_cache_for" default:"1m" min:"0s" max:"1d"`
}

// Rewrite is how addresses are rewritten, in the order and with the tables of Postfix. A
// table is a list of "file:PATH", "ldap:NAME", "http:NAME" and entries "pattern result".
// Patterns are user@domain, user, @domain, an address or network, and /expression/; the
// first part of the list that has an entry counts.
type Rewrite struct {
	// Senders and recipients, in envelope and header, as soon as mail comes in.
	Canonical []TableSource `toml:"canonical" default:"[]" example:"[\"file:canonical\"]"`
	// The same for senders only, before canonical.
	SenderCanonical []TableSource `toml:"sender_canonical" default:"[]" example:"[\"file:senders\"]"`
	// The same for recipients only, before canonical.
	RecipientCanonical []TableSource `toml:"recipient_canonical" default:"[]" example:"[\"@old.example.com @example.com\"]"`
	// Where canonical applies.
	CanonicalClasses []string `toml:"canonical_classes" default:"[\"envelope_sender\", \"envelope_recipient\", \"header_sender\", \"header_recipient\"]" enum:"envelope_sender,envelope_recipient,header_sender,header_recipient"`
	// Domains whose hosts are hidden: a.b.example.com becomes example.com. A "!" in front
	// leaves that domain as it is.
	Masquerade []string `toml:"masquerade" default:"[]" example:"[\"!lab.example.com\", \"example.com\"]"`
	// Users that are not hidden.
	MasqueradeExceptions []string `toml:"masquerade_exceptions" default:"[]" example:"[\"root\"]"`
	// Where masquerade applies.
	MasqueradeClasses []string `toml:"masquerade_classes" default:"[\"envelope_sender\", \"header_sender\", \"header_recipient\"]" enum:"envelope_sender,envelope_recipient,header_sender,header_recipient"`
	// Who gets a copy of mail from or to an address.
	BCC []TableSource `toml:"bcc" default:"[]" example:"[\"@example.com archive@example.com\"]"`
	// Who gets a copy of mail from an address.
	SenderBCC []TableSource `toml:"sender_bcc" default:"[]" example:"[\"file:sender-bcc\"]"`
	// Who gets a copy of mail to an address.
	RecipientBCC []TableSource `toml:"recipient_bcc" default:"[]" example:"[\"file:recipient-bcc\"]"`
	// Recipients that stand for one or many others.
	Virtual []TableSource `toml:"virtual" default:"[]" example:"[\"file:virtual\"]"`
	// The transport, or "transport:domain", for an address or a domain.
	TransportMap []TableSource `toml:"transport_map" default:"[]" example:"[\"file:transport\"]"`
	// Those who have moved: mail to them gets 550 5.1.6 with the new address.
	Relocated []TableSource `toml:"relocated" default:"[]" example:"[\"file:relocated\"]"`
	// Senders and recipients, in envelope and header, of mail that leaves.
	Generic []TableSource `toml:"generic" default:"[]" example:"[\"file:generic\"]"`
	// The transports through which that mail leaves. Empty: all.
	GenericTransports []Name `toml:"generic_transports" default:"[]" example:"[\"internet\"]"`
	// Characters between a user's name and an extension; the extension is put to the
	// result of an entry without one.
	RecipientDelimiter string `toml:"recipient_delimiter" default:"" example:"+"`
	// The domain of results without one. Empty: that of the address that was looked up.
	Origin DomainName `toml:"origin" default:"" example:"example.com"`
	// Whose mail has its header rewritten, too: that of clients that may relay, all, none.
	HeaderClients string `toml:"header_clients" default:"trusted" enum:"trusted,all,none"`
	// How many recipients one may become.
	ExpansionLimit int `toml:"expansion_limit" default:"1000" min:"1" max:"100000"`
	// How many entries may be followed on the way.
	RecursionLimit int `toml:"recursion_limit" default:"1000" min:"1" max:"100000"`
}

// SRS is how the sender of forwarded mail is rewritten where its domain is not yours, so
// that SPF does not fail: mail for a foreign sender that leaves to a domain that is not
// yours either.
type SRS struct {
	// File with the secrets, one in a line, 16 characters or more. The first one signs,
	// all are known. Empty: senders are not rewritten.
	SecretFile Path `toml:"secret_file" default:"" example:"srs.secret"`
	// The domain of the new senders; mail to it must come back here.
	Domain DomainName `toml:"domain" default:"(hostname)" example:"srs.example.com"`
	// How long a bounce may take.
	MaxAge time.Duration `toml:"max_age" default:"21d" min:"1d" max:"500d"`
	// Characters of the signature.
	HashLength int `toml:"hash_length" default:"6" min:"4" max:"20"`
}

// Users is what users who have logged in may do. Mail over a limit is held in the
// quarantine, and the postmaster is told.
type Users struct {
	// Messages of one user in an hour. 0: no limit.
	MessagesPerHour int `toml:"messages_per_hour" default:"0" min:"0" max:"1000000"`
	// Messages of one user in a day. 0: no limit.
	MessagesPerDay int `toml:"messages_per_day" default:"0" min:"0" max:"10000000"`
	// Recipients of one user in an hour. 0: no limit.
	RecipientsPerHour int `toml:"recipients_per_hour" default:"0" min:"0" max:"10000000"`
	// Recipients of one user in a day. 0: no limit.
	RecipientsPerDay int `toml:"recipients_per_day" default:"0" min:"0" max:"10000000"`
	// Recipients of one message. 0: no limit but that of [limits].
	RecipientsPerMessage int `toml:"recipients_per_message" default:"0" min:"0" max:"50000"`
	// Whom a user may send as. own: the addresses that the flow of the stage auth says are
	// the user's. domains: these, and all in your domains. any: everybody.
	SendAs string `toml:"send_as" default:"domains" enum:"own,domains,any"`
	// What is done against those who guess passwords.
	Guard Guard `toml:"guard"`
}

// Guard is how failed logins are slowed down. No account is ever locked: what is locked
// is a network, or one account for one network. The same wrong password for the same
// account counts once.
type Guard struct {
	// Failures that cost nothing.
	Free int `toml:"free" default:"3" min:"1" max:"1000"`
	// How long the answer to the next one is held back; each further one twice as long.
	Delay time.Duration `toml:"delay" default:"1s" min:"10ms" max:"1m"`
	// How long at most.
	MaxDelay time.Duration `toml:"max_delay" default:"15s" min:"10ms" max:"2m"`
	// Failures at one account that lock it for the network that made them.
	AccountFailures int `toml:"account_failures" default:"10" min:"1" max:"100000"`
	// Failures at several accounts that lock everything for the network.
	NetworkFailures int `toml:"network_failures" default:"30" min:"2" max:"1000000"`
	// After how long without a failure they are forgotten.
	Window time.Duration `toml:"window" default:"15m" min:"1s" max:"7d"`
	// How long a lock lasts; twice as long when it comes again within a day.
	Lock time.Duration `toml:"lock" default:"15m" min:"1s" max:"7d"`
	// How long at most.
	MaxLock time.Duration `toml:"max_lock" default:"4h" min:"1s" max:"30d"`
	// How long a network is remembered from which a user has logged in: what others do
	// there does not lock the user out.
	KnownFor time.Duration `toml:"known_for" default:"30d" min:"1h" max:"365d"`
	// How many bits of an IPv4 address make one network.
	IPv4Prefix int `toml:"ipv4_prefix" default:"24" min:"1" max:"32"`
	// How many bits of an IPv6 address make one network.
	IPv6Prefix int `toml:"ipv6_prefix" default:"64" min:"1" max:"128"`
}
