package gateway

import "gatepost/internal/mail"

// toOriginal sends a recipient to the server that a diverted connection was meant
// for, where his transport leads there. Everyone else goes to the mail exchangers of
// his domain, and later: who gets a copy, whom a table moved to another domain, and
// mail that no diverted connection brought. That server was never asked for them.
func (g *Gateway) toOriginal(s *mail.Session, r *mail.Recipient) {
	if !g.cfg.Originals[r.Route.Transport] {
		return
	}
	// A table that names another next hop than the domain's has decided already.
	named := r.Route.NextHop == r.Address.Domain && r.Address.Domain == r.Original.Domain
	if s.Original.IsValid() && !r.Copy && named {
		r.Route.NextHop = s.Original.String()
		return
	}
	r.Route.Proxy = false
}
