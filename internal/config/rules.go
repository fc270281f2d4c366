package config

// rule is the stable name of something that a configuration must not do. Every
// one has a case under testdata/bad; the comments stand in the reference.
type rule string

// Rules about the text of the file and single values.
const (
	ruleUnreadable   rule = "unreadable"    // the configuration file can't be read
	ruleSyntax       rule = "syntax"        // the file is not TOML; only the first such place is found
	ruleDuplicateKey rule = "duplicate-key" // a key or table stands in the file twice
	ruleUnknownKey   rule = "unknown-key"   // there is no such key
	ruleWrongType    rule = "wrong-type"    // a number stands for a string, or the like
	ruleRequired     rule = "required"      // a key that must be set is missing or empty
	ruleBadSize      rule = "bad-size"      // not a size
	ruleBadRate      rule = "bad-rate"      // not a rate
	ruleBadDuration  rule = "bad-duration"  // not a duration
	ruleBadNetwork   rule = "bad-network"   // not a network, or an address with a length that does not fit it
	ruleBadAddress   rule = "bad-address"   // not an IP address, a host and port, or a mail address
	ruleBadDomain    rule = "bad-domain"    // not a domain
	ruleBadName      rule = "bad-name"      // not a name
	ruleBadSource    rule = "bad-source"    // not a source of recipients
	ruleBadChoice    rule = "bad-choice"    // not one of the allowed values
	ruleOutOfRange   rule = "out-of-range"  // too small or too large
	ruleControlChar  rule = "control-char"  // a value with a line end or another control character
	ruleBadSelector  rule = "bad-selector"  // not a DKIM selector
	ruleBadDelimiter rule = "bad-delimiter" // not a recipient delimiter
	ruleBadURL       rule = "bad-url"       // not a URL, or not one of this kind
	ruleBadTime      rule = "bad-time"      // not a time of day
	ruleBadZone      rule = "bad-zone"      // not a DNS list
	ruleBadLimit     rule = "bad-limit"     // not a limit of how much in how much time
	ruleBadTable     rule = "bad-table"     // not a part of a table of [rewrite], or a line of its file that is no entry
	ruleBadTemplate  rule = "bad-template"  // a filter, a name or a request that nothing can be put into
	ruleBadAction    rule = "bad-action"    // not an action of a filter, or actions that contradict each other
	ruleBadCondition rule = "bad-condition" // a condition of a filter that can't be used
	ruleNoHostname   rule = "no-hostname"   // hostname is not set, and the host has no usable name
)

// Rules about names and files.
const (
	ruleDuplicateName     rule = "duplicate-name"      // two parts of one kind have the same name
	ruleDanglingListener  rule = "dangling-listener"   // no listener has this name
	ruleDanglingTransport rule = "dangling-transport"  // no transport has this name
	ruleDanglingDKIM      rule = "dangling-dkim"       // no DKIM key has this name
	ruleDanglingFlow      rule = "dangling-flow"       // no flow has this name
	ruleDanglingText      rule = "dangling-disclaimer" // no disclaimer has this name
	ruleDanglingFilter    rule = "dangling-filter"     // no filter has this name
	ruleDanglingLDAP      rule = "dangling-ldap"       // no directory has this name
	ruleDanglingHTTP      rule = "dangling-http"       // no web service has this name
	ruleReservedName      rule = "reserved-name"       // a transport has the name of one that is always there
	ruleDuplicateBlock    rule = "duplicate-block"     // a block stands in a flow twice
	ruleDuplicateListen   rule = "duplicate-listen"    // two services on one address and port
	ruleDuplicateDomain   rule = "duplicate-domain"    // two entries for one domain of one listener; aliases count
	ruleDuplicateElement  rule = "duplicate-element"   // a value stands in a list twice
	ruleDuplicateSelector rule = "duplicate-selector"  // two keys with one record in DNS
	ruleFileMissing       rule = "file-missing"        // a file does not exist or can't be read
	ruleFileKind          rule = "file-kind"           // a directory stands for a file, or a file for a directory
	ruleFileEmpty         rule = "file-empty"          // a password or token file has no first line
	ruleBadCertificate    rule = "bad-certificate"     // a certificate can't be read, or does not fit its key
	ruleCertificatePair   rule = "certificate-pair"    // a certificate without its key, or a key without its certificate
	ruleBadKey            rule = "bad-key"             // a DKIM key that can't sign
	ruleBadRecipients     rule = "bad-recipients"      // a line of a recipient file is no entry
	ruleBadList           rule = "bad-list"            // an entry of a list of clients, or a line of its file, is none
	ruleBadUsers          rule = "bad-users"           // a line of a file of users is no entry
	ruleBadScript         rule = "bad-script"          // a mistake in a script
	ruleBadSecret         rule = "bad-secret"          // a secret that is too short
)

// Rules about what would not work, or would be dangerous.
const (
	ruleNoListener     rule = "no-listener"     // nothing listens
	ruleNoDomain       rule = "no-domain"       // a listener that no domain applies to would refuse every mail
	ruleOpenRelay      rule = "open-relay"      // a large part of the Internet is trusted
	ruleAnyDomain      rule = "any-domain"      // "*" has aliases or recipients
	ruleLoop           rule = "loop"            // a next hop is this very host
	rulePostmasterLoop rule = "postmaster-loop" // the postmaster's mail would come back to this host
	ruleUnusedKey      rule = "unused-key"      // a key that has no effect beside the others
	ruleWeights        rule = "weights"         // not one weight for each host
	ruleNoHosts        rule = "no-hosts"        // a transport of kind smtp or lmtp without next hops
	ruleNoPath         rule = "no-path"         // a transport of kind maildir without a directory
	ruleBadPath        rule = "bad-path"        // a path with an unknown placeholder
	ruleProxy          rule = "proxy"           // a domain that is passed through with what can't be
	ruleInterception   rule = "interception"    // diverted connections that could not be served, or a use of them without any
	ruleUpstream       rule = "upstream"        // a POP3 listener without a server behind it that could be used
	ruleSocket         rule = "socket"          // a socket where there can be none
	ruleTLSPolicy      rule = "tls-policy"      // a TLS policy that can't be met
	ruleWrongStage     rule = "wrong-stage"     // a flow or a block of another stage
	ruleBadBlock       rule = "bad-block"       // parameters of a block that are missing or contradict each other
	ruleNoCallout      rule = "no-callout"      // a transport without a server that could be asked
	ruleNoAuthFlow     rule = "no-auth-flow"    // users may log in, but no flow knows them
	ruleNoAuthTLS      rule = "no-auth-tls"     // users may log in under TLS only, and there is none
	ruleNoScanner      rule = "no-scanner"      // a flow asks a virus scanner that is not there
	ruleDigest         rule = "digest"          // digests without what they need
	ruleThresholds     rule = "thresholds"      // scores in an order that makes no sense
	ruleRetry          rule = "retry"           // a schedule that contradicts itself
	ruleLimits         rule = "limits"          // limits that contradict each other
)

// Rules of which only a warning is given.
const (
	ruleWarnTrust      rule = "wide-trust"        // a very large public network is trusted
	ruleWarnReadable   rule = "readable-secret"   // every user of the host can read a key, password or token
	ruleWarnExpired    rule = "certificate-date"  // a certificate is not valid now
	ruleWarnWeakKey    rule = "weak-key"          // an RSA key of less than 2048 bits
	ruleWarnClearAuth  rule = "clear-password"    // a password may travel in the clear
	ruleWarnToken      rule = "clear-token"       // the token for /metrics travels in the clear
	ruleWarnClearWeb   rule = "clear-web"         // passwords of the web administration travel in the clear
	ruleWarnNoInternet rule = "no-any-domain"     // trusted clients may send anywhere, but nothing says where that goes
	ruleWarnOwnMX      rule = "own-mx"            // mail for a domain of ours goes to its MX, which usually is this host
	ruleWarnNoEntries  rule = "no-recipients"     // a recipient file without entries
	ruleWarnUnusedDKIM rule = "unused-dkim"       // a DKIM key that no transport uses
	ruleWarnNoResults  rule = "nothing-to-seal"   // ARC without the results that it tells
	ruleWarnUnusedText rule = "unused-disclaimer" // a disclaimer that no filter adds
	ruleWarnResolver   rule = "dane-resolver"     // DANE without a name server on this host
	ruleWarnNoScore    rule = "no-score"          // a block gives a score that nothing looks at, or a block score that does nothing
	ruleWarnNoProof    rule = "no-proof"          // senders are allowed only with proof, but nothing looks for it
	ruleWarnNoFilters  rule = "unused-filter"     // filters that no flow applies
	ruleWarnUnusedFlow rule = "unused-flow"       // a flow that nothing names
	ruleWarnNoAuth     rule = "unused-auth-flow"  // a flow knows users, but nobody may log in
	ruleWarnUnusedLook rule = "unused-lookup"     // a directory or web service that nothing asks
	ruleWarnUsers      rule = "users-file"        // a file of users that others may read or change
	ruleWarnTimeout    rule = "long-timeout"      // a block may take longer than the whole flow
	ruleWarnPassword   rule = "password-in-url"   // a password in the configuration itself
	ruleWarnNoAnswer   rule = "digest-links"      // digests with links that this node does not answer
	ruleWarnShortName  rule = "short-hostname"    // a host name without a domain
)
