package mail

// ReplyKey names one of the replies that Gatepost gives in its own words. The
// text is short and generic on purpose: the cause goes to log and history.
type ReplyKey uint8

// The replies. The comments say when each is given.
const (
	ReplyOK               ReplyKey = iota // NOOP, RSET and the like
	ReplySenderOK                         // MAIL
	ReplyRecipientOK                      // RCPT
	ReplyQueued                           // final dot: the message is durable
	ReplyChunkOK                          // BDAT, not the last
	ReplyStartData                        // DATA
	ReplyStartTLS                         // STARTTLS
	ReplyAuthOK                           // AUTH
	ReplyBye                              // QUIT
	ReplyVrfy                             // VRFY: the same for every address
	ReplyHelp                             // HELP
	ReplyShuttingDown                     // SIGTERM
	ReplyIdle                             // command timeout
	ReplyTooManyErrors                    // max_errors
	ReplyTooManySessions                  // max_sessions
	ReplyTooManyFromHost                  // max_sessions_per_ip
	ReplyOverload                         // no memory, no file descriptors
	ReplyTooSlow                          // min_data_rate, data_timeout
	ReplyLocalError                       // spool and other failures of ours
	ReplyNoSpace                          // disk full or below free_disk
	ReplyTryLater                         // a deferral without a text of its own
	ReplyLookupFailed                     // recipient or domain lookup is down
	ReplyTooManyRcpts                     // max_recipients
	ReplyBadCommand                       // not a command
	ReplyLineTooLong                      // command line over the limit
	ReplySyntax                           // bad arguments
	ReplyBadParameter                     // unknown MAIL or RCPT parameter
	ReplyParameterValue                   // known parameter, bad value
	ReplyNotImplemented                   // EXPN, TURN, ETRN, …
	ReplyBadSequence                      // command out of order
	ReplyNeedHelo                         // MAIL before EHLO
	ReplyNestedMail                       // MAIL in a transaction
	ReplyNeedMail                         // RCPT before MAIL
	ReplyNeedRcpt                         // DATA without a recipient
	ReplyNoValidRcpts                     // DATA after every recipient was refused
	ReplyBdatPending                      // another command between chunks
	ReplyNoDataBinary                     // DATA after BODY=BINARYMIME
	ReplyNeedTLS                          // tls = "required"
	ReplyTLSActive                        // STARTTLS inside TLS
	ReplyTLSUnavailable                   // no certificate, or STARTTLS not offered
	ReplyAuthNeedsTLS                     // AUTH without TLS
	ReplyAuthUnavailable                  // AUTH is not offered
	ReplyAuthMechanism                    // mechanism is not offered
	ReplyAuthFailed                       // wrong name or password
	ReplyAuthTempFail                     // no backend could answer
	ReplyAuthCancelled                    // "*"
	ReplyAuthTwice                        // AUTH when authenticated
	ReplyRelayDenied                      // not our domain, not a trusted client
	ReplyAccessDenied                     // a policy rejects without a text of its own
	ReplyNoSuchUser                       // unknown recipient
	ReplyBadAddress                       // address syntax
	ReplyBadSenderAddress                 // address syntax, in MAIL
	ReplyAddressLiteral                   // user@[192.0.2.1]
	ReplyNeedsSMTPUTF8                    // non-ASCII address without the parameter
	ReplyTooBig                           // over max_message_size
	ReplyTooManyHops                      // loop
	ReplyBareLineEnd                      // line_endings = "reject"
	ReplyHeaderTooBig                     // header section over its limit
	ReplyContentRejected                  // a verdict rejects without a text of its own
	ReplyNeedRequireTLS                   // REQUIRETLS outside TLS
	ReplyHTTP                             // GET, POST, CONNECT
	ReplyNoService                        // a policy refuses the connection
	ReplyProxyHeader                      // PROXY header missing or bad
	ReplyDelivered                        // outcome: stored in a maildir
	ReplyDiscarded                        // outcome: transport of kind discard
	ReplyBadMailbox                       // outcome: recipient cannot name a maildir
	ReplyNextHopDown                      // outcome: nobody answers at the next hop
	ReplyNextHopSilent                    // outcome: the next hop did not answer in time
	ReplyNextHopLost                      // outcome: connection to the next hop broke
	ReplyNextHopProtocol                  // outcome: the next hop broke the protocol
	ReplyNextHopNoTLS                     // outcome: TLS is required and not offered
	ReplyNextHopBadTLS                    // outcome: TLS is required and failed, or the certificate is not good
	ReplyNextHopAuth                      // outcome: cannot log in to the next hop
	ReplyNextHopTooBig                    // outcome: over the SIZE that the next hop announces
	ReplyNextHop7Bit                      // outcome: 8-bit or binary, and must not be converted
	ReplyNextHopASCII                     // outcome: needs SMTPUTF8 and the next hop lacks it
	ReplyNextHopReqTLS                    // outcome: REQUIRETLS and the next hop lacks it
	ReplyNullMX                           // outcome: MX 0 .
	ReplyNoDomain                         // outcome: the domain does not exist
	ReplyNoRoute                          // outcome: no mail host of the domain has an address
	ReplyLoopsBack                        // outcome: the best MX is this host
	ReplyDNSFailed                        // outcome: the name servers do not answer
	ReplyInterrupted                      // outcome: Gatepost is stopping
	ReplyInternal                         // a bug of ours ended the session
	ReplyConnectDefer                     // a policy defers the connection
	ReplyEarlyDefer                       // pregreet or pipelining out of turn: defer
	ReplyEarlyReject                      // the same: reject
	ReplyAfterStartTLS                    // plaintext commands behind STARTTLS
	ReplyLineEnd                          // a command line with a bare CR or LF
	ReplyQuarantined                      // outcome: held in the quarantine
	ReplyDMARC                            // the domain of the author asks for it
	ReplyPerRecipient                     // PRDR: the answers for each recipient follow
	ReplyRateLimited                      // a rate of the configuration is exceeded
	ReplyTooManyLogins                    // too many failed logins from the network
	ReplyNotYourAddress                   // an authenticated user may not send as this sender
	ReplyGreylisted                       // first seen a moment ago
	ReplySenderDomain                     // the sender's domain has no mail host
	ReplySenderNullMX                     // the sender's domain says that it takes no mail
	ReplySenderUnknown                    // the sender's own mail host does not know the address
	ReplySpoofed                          // a sender of ours from a stranger
	ReplyRelocated                        // the recipient has another address now
	ReplySPFFailed                        // the sender's domain does not allow the client
	ReplySPFBroken                        // the sender's domain has an SPF record that nobody understands
	ReplyUpstreamBusy                     // every session to the destination is in use
	ReplyNotThrough                       // a diverted connection would come back to this host
	replyCount
)

// replyTable is the one table of replies. RFC 5321 §4.2, RFC 3463, RFC 5248.
var replyTable = [replyCount]struct {
	code     int
	enhanced string
	text     string
}{
	ReplyOK:               {250, "2.0.0", "OK"},
	ReplySenderOK:         {250, "2.1.0", "Sender OK"},
	ReplyRecipientOK:      {250, "2.1.5", "Recipient OK"},
	ReplyQueued:           {250, "2.0.0", "OK: queued"},
	ReplyChunkOK:          {250, "2.0.0", "Chunk OK"},
	ReplyPerRecipient:     {353, "", "An answer for each recipient follows"},
	ReplyStartData:        {354, "", "End data with <CR><LF>.<CR><LF>"},
	ReplyStartTLS:         {220, "2.0.0", "Ready to start TLS"},
	ReplyAuthOK:           {235, "2.7.0", "Authentication successful"},
	ReplyBye:              {221, "2.0.0", "Bye"},
	ReplyVrfy:             {252, "2.5.0", "Send some mail, I'll try my best"},
	ReplyHelp:             {214, "2.0.0", "See RFC 5321; ask your postmaster"},
	ReplyShuttingDown:     {421, "4.3.2", "Shutting down, try again"},
	ReplyIdle:             {421, "4.4.2", "Timeout, closing connection"},
	ReplyTooManyErrors:    {421, "4.7.0", "Too many errors, closing connection"},
	ReplyTooManySessions:  {421, "4.3.2", "Too many connections, try again later"},
	ReplyTooManyFromHost:  {421, "4.7.0", "Too many connections from your network, try again later"},
	ReplyOverload:         {421, "4.3.2", "Out of resources, try again later"},
	ReplyTooSlow:          {421, "4.4.2", "Data arrives too slowly, closing connection"},
	ReplyLocalError:       {451, "4.3.0", "Local error, try again later"},
	ReplyNoSpace:          {452, "4.3.1", "Out of storage, try again later"},
	ReplyTryLater:         {451, "4.7.1", "Try again later"},
	ReplyLookupFailed:     {451, "4.3.0", "Lookup failed, try again later"},
	ReplyTooManyRcpts:     {452, "4.5.3", "Too many recipients"},
	ReplyBadCommand:       {500, "5.5.2", "Command not recognized"},
	ReplyLineTooLong:      {500, "5.5.2", "Line too long"},
	ReplySyntax:           {501, "5.5.4", "Syntax error in arguments"},
	ReplyBadParameter:     {555, "5.5.4", "Parameter not recognized"},
	ReplyParameterValue:   {501, "5.5.4", "Bad parameter value"},
	ReplyNotImplemented:   {502, "5.5.1", "Command not implemented"},
	ReplyBadSequence:      {503, "5.5.1", "Bad sequence of commands"},
	ReplyNeedHelo:         {503, "5.5.1", "Send EHLO or HELO first"},
	ReplyNestedMail:       {503, "5.5.1", "Sender already given"},
	ReplyNeedMail:         {503, "5.5.1", "Send MAIL first"},
	ReplyNeedRcpt:         {503, "5.5.1", "Send RCPT first"},
	ReplyNoValidRcpts:     {554, "5.5.1", "No valid recipients"},
	ReplyBdatPending:      {503, "5.5.1", "Finish the message with BDAT LAST, or RSET"},
	ReplyNoDataBinary:     {503, "5.5.1", "BINARYMIME needs BDAT"},
	ReplyNeedTLS:          {530, "5.7.0", "Issue STARTTLS first"},
	ReplyTLSActive:        {503, "5.5.1", "TLS is active"},
	ReplyTLSUnavailable:   {454, "4.7.0", "TLS not available"},
	ReplyAuthNeedsTLS:     {538, "5.7.11", "Encryption required for authentication"},
	ReplyAuthUnavailable:  {502, "5.5.1", "AUTH not available"},
	ReplyAuthMechanism:    {504, "5.5.4", "Mechanism not available"},
	ReplyAuthFailed:       {535, "5.7.8", "Authentication failed"},
	ReplyAuthTempFail:     {454, "4.7.0", "Authentication not possible now"},
	ReplyAuthCancelled:    {501, "5.7.0", "Authentication cancelled"},
	ReplyAuthTwice:        {503, "5.5.1", "Already authenticated"},
	ReplyRelayDenied:      {550, "5.7.1", "Relaying denied"},
	ReplyAccessDenied:     {550, "5.7.1", "Refused by policy"},
	ReplyNoSuchUser:       {550, "5.1.1", "No such recipient"},
	ReplyBadAddress:       {501, "5.1.3", "Bad recipient address"},
	ReplyBadSenderAddress: {501, "5.1.7", "Bad sender address"},
	ReplyAddressLiteral:   {550, "5.7.1", "Mail to address literals is not accepted"},
	ReplyNeedsSMTPUTF8:    {553, "5.6.7", "Address needs SMTPUTF8"},
	ReplyTooBig:           {552, "5.3.4", "Message exceeds the size limit"},
	ReplyTooManyHops:      {554, "5.4.6", "Too many hops"},
	ReplyBareLineEnd:      {550, "5.6.0", "Bare CR, LF or NUL in message data"},
	ReplyHeaderTooBig:     {552, "5.3.4", "Message header exceeds the size limit"},
	ReplyContentRejected:  {554, "5.7.1", "Content refused by policy"},
	ReplyNeedRequireTLS:   {530, "5.7.10", "REQUIRETLS needs TLS"},
	ReplyHTTP:             {421, "4.7.0", "This is not a web server"},
	ReplyNoService:        {554, "5.7.1", "No service for you"},
	ReplyProxyHeader:      {421, "4.7.0", "PROXY header required"},
	ReplyInternal:         {421, "4.3.0", "Local error, closing connection"},
	ReplyConnectDefer:     {421, "4.7.0", "Try again later, closing connection"},
	ReplyEarlyDefer:       {421, "4.5.0", "Client spoke out of turn, closing connection"},
	ReplyEarlyReject:      {554, "5.5.0", "Client spoke out of turn"},
	ReplyAfterStartTLS:    {421, "4.7.0", "Commands after STARTTLS, closing connection"},
	ReplyLineEnd:          {500, "5.5.2", "Lines must end with CR LF"},
	ReplyDMARC:            {550, "5.7.1", "Refused as the DMARC policy of the sender's domain asks"},
	ReplyRateLimited:      {451, "4.7.1", "Too much in too short a time, try again later"},
	ReplyTooManyLogins:    {421, "4.7.0", "Too many failed logins, try again later"},
	ReplyNotYourAddress:   {553, "5.7.1", "Sender address is not yours"},
	ReplyGreylisted:       {451, "4.7.1", "Greylisted, try again later"},
	ReplySenderDomain:     {550, "5.1.8", "Domain of the sender does not exist or cannot receive mail"},
	ReplySenderNullMX:     {550, "5.7.27", "Domain of the sender does not accept mail"}, // RFC 7505 §4.2
	ReplySenderUnknown:    {550, "5.1.7", "Sender address does not exist"},
	ReplySpoofed:          {550, "5.7.1", "Authentication required to send from this domain"},
	ReplyRelocated:        {550, "5.1.6", "Recipient has moved"},
	ReplySPFFailed:        {550, "5.7.23", "SPF validation failed"}, // RFC 7372 §3.2
	ReplySPFBroken:        {550, "5.7.24", "SPF validation error"},  // RFC 7372 §3.2
	ReplyDelivered:        {250, "2.0.0", "Delivered"},
	ReplyDiscarded:        {250, "2.0.0", "Discarded"},
	ReplyBadMailbox:       {553, "5.1.3", "Recipient cannot name a mailbox"},
	ReplyQuarantined:      {250, "2.0.0", "Quarantined"},

	// What a DSN says when there is no reply of the next hop to quote.
	ReplyNextHopDown:     {451, "4.4.1", "No answer from the next hop"},
	ReplyNextHopSilent:   {451, "4.4.2", "The next hop did not answer in time"},
	ReplyNextHopLost:     {451, "4.4.2", "Connection to the next hop was lost"},
	ReplyNextHopProtocol: {451, "4.5.0", "The next hop broke the protocol"},
	ReplyNextHopNoTLS:    {451, "4.7.4", "The next hop does not offer the TLS that is required"},
	ReplyNextHopBadTLS:   {451, "4.7.5", "No trusted TLS session with the next hop"},
	ReplyNextHopAuth:     {451, "4.7.0", "Cannot log in to the next hop"},
	ReplyNextHopTooBig:   {552, "5.3.4", "Message exceeds the size limit of the next hop"},
	ReplyNextHop7Bit:     {554, "5.6.3", "The next hop takes 7-bit mail only, and this message must not be converted"},
	ReplyNextHopASCII:    {553, "5.6.7", "The next hop does not support internationalized mail"},
	ReplyNextHopReqTLS:   {550, "5.7.30", "The next hop does not support REQUIRETLS"},
	ReplyNullMX:          {556, "5.1.10", "The domain does not accept mail"},
	ReplyNoDomain:        {550, "5.1.2", "Domain not found"},
	ReplyNoRoute:         {550, "5.4.4", "No mail host of the domain has an address"},
	ReplyLoopsBack:       {554, "5.4.6", "Mail for the domain loops back to this host"},
	ReplyDNSFailed:       {451, "4.4.3", "Name service does not answer"},
	ReplyInterrupted:     {451, "4.3.2", "Delivery was interrupted"},
	ReplyNotThrough:      {421, "4.4.6", "This connection leads back to here"},
	ReplyUpstreamBusy:    {451, "4.3.2", "Destination is busy, try again later"},
}

// Reply returns the table's reply for the key.
func (k ReplyKey) Reply() Reply {
	if k >= replyCount {
		k = ReplyLocalError
	}
	row := &replyTable[k]
	return Reply{Code: row.code, Enhanced: row.enhanced, Lines: []string{row.text}}
}

// ReplyKeys returns every key, for tests and documentation.
func ReplyKeys() []ReplyKey {
	keys := make([]ReplyKey, replyCount)
	for i := range keys {
		keys[i] = ReplyKey(i)
	}
	return keys
}
