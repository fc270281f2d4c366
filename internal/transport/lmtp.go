package transport

// newLMTP makes a transport that delivers to the configured hosts over LMTP (RFC
// 2033), where each recipient has a reply of his own to the message. All of the
// difference is in smtpclient.
func newLMTP(cfg Config, deps Deps) (Transport, error) { return newSMTP(cfg, deps) }
