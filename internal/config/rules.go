package config

// rule is the stable name of something that a configuration must not do. Every
// one of them has a case in testdata.
type rule string

// Rules about the text of the file.
const (
	ruleUnreadable   rule = "unreadable"    // the file itself can't be read
	ruleSyntax       rule = "syntax"        // not TOML
	ruleDuplicateKey rule = "duplicate-key" // a key or table twice
	ruleUnknownKey   rule = "unknown-key"   // nothing has this name
	ruleNotYet       rule = "not-yet"       // a later version will have it
	ruleWrongType    rule = "wrong-type"    // a number for a string and the like
	ruleRequired     rule = "required"      // a key that must be there is not
	ruleBadSize      rule = "bad-size"      //
	ruleBadRate      rule = "bad-rate"      //
	ruleBadDuration  rule = "bad-duration"  //
	ruleBadNetwork   rule = "bad-network"   //
	ruleBadAddress   rule = "bad-address"   // IP, host:port, mail address
	ruleBadDomain    rule = "bad-domain"    //
	ruleBadName      rule = "bad-name"      //
	ruleBadSource    rule = "bad-source"    // of recipients
	ruleBadChoice    rule = "bad-choice"    // not among the allowed values
	ruleOutOfRange   rule = "out-of-range"  // below min or above max
	ruleControlChar  rule = "control-char"  // a line end or the like in a value
	ruleBadSelector  rule = "bad-selector"  // DKIM
	ruleBadDelimiter rule = "bad-delimiter" // recipient_delimiter
	ruleNoHostname   rule = "no-hostname"   // not set, and the host's own is no use
)

// Rules about names and files that others refer to.
const (
	ruleDuplicateName     rule = "duplicate-name"     // two parts of one kind with one name
	ruleDanglingListener  rule = "dangling-listener"  // a name that nothing defines
	ruleDanglingTransport rule = "dangling-transport" //
	ruleDanglingDKIM      rule = "dangling-dkim"      //
	ruleDuplicateListen   rule = "duplicate-listen"   // two services on one address
	ruleDuplicateDomain   rule = "duplicate-domain"   // two entries for one domain
	ruleDuplicateElement  rule = "duplicate-element"  // a list has a value twice
	ruleDuplicateSelector rule = "duplicate-selector" // two keys, one DNS record
	ruleFileMissing       rule = "file-missing"       // or can't be read
	ruleFileKind          rule = "file-kind"          // a directory for a file and the like
	ruleFileEmpty         rule = "file-empty"         // a password or token file without one
	ruleBadCertificate    rule = "bad-certificate"    // no PEM, or it does not fit the key
	ruleBadKey            rule = "bad-key"            // a DKIM key that can't sign
	ruleBadRecipients     rule = "bad-recipients"     // a line of a recipient file
	ruleCertificatePair   rule = "certificate-pair"   // certificate without key, key without certificate
)

// Rules about what would not work, or would be dangerous.
const (
	ruleNoListener     rule = "no-listener"     // nothing to do
	ruleNoDomain       rule = "no-domain"       // a listener that would refuse everything
	ruleOpenRelay      rule = "open-relay"      // trust for the Internet
	ruleAnyDomain      rule = "any-domain"      // "*" with aliases or recipients
	ruleLoop           rule = "loop"            // a next hop that is this host
	rulePostmasterLoop rule = "postmaster-loop" // postmaster at this host's own name
	ruleUnusedKey      rule = "unused-key"      // a key that its neighbour makes void
	ruleNoHosts        rule = "no-hosts"        // smtp or lmtp without next hops
	ruleNoPath         rule = "no-path"         // maildir without a path
	ruleSocket         rule = "socket"          // unix: where it can't be
	ruleTLSPolicy      rule = "tls-policy"      // a TLS policy that can't be met
	ruleRetry          rule = "retry"           // a schedule that contradicts itself
	ruleLimits         rule = "limits"          // limits that contradict each other
)

// Rules of which only a warning is given.
const (
	ruleWarnTrust      rule = "wide-trust"       // a large public network is trusted
	ruleWarnReadable   rule = "readable-secret"  // a secret that others may read
	ruleWarnExpired    rule = "certificate-date" // a certificate out of its time
	ruleWarnWeakKey    rule = "weak-key"         // an RSA key below 2048 bits
	ruleWarnClearAuth  rule = "clear-password"   // a password that may travel in the clear
	ruleWarnNoInternet rule = "no-any-domain"    // trust, but nowhere to send to
	ruleWarnOwnMX      rule = "own-mx"           // our own domain by its MX
	ruleWarnNoEntries  rule = "no-recipients"    // a recipient file without entries
	ruleWarnUnusedDKIM rule = "unused-dkim"      // a key that signs nothing
	ruleWarnResolver   rule = "dane-resolver"    // DANE without a resolver of our own
	ruleWarnShortName  rule = "short-hostname"   // a host name without a domain
	ruleWarnToken      rule = "clear-token"      // a token over plain HTTP
)
