package script

import (
	"fmt"
	"net/netip"

	"go.starlark.net/starlark"

	"gatepost/internal/mail"
)

// object is what all values of Gatepost in a script have in common: they are
// read only, they cannot be keys, and they are made when they are asked for.
type object struct{}

func (object) Freeze()               {}
func (object) Truth() starlark.Bool  { return true }
func (object) Hash() (uint32, error) { return 0, fmt.Errorf("unhashable") }

// session is the s of a script.
type session struct {
	object
	c        *call
	client   client
	tls      encryption
	envelope envelope
	message  letter
	findings *starlark.List
}

// attrNames are the attributes of a kind of object.
type attrNames []string

var (
	sessionAttrs  = attrNames{"client", "envelope", "esmtp", "findings", "found", "helo", "listener", "login", "message", "password", "score", "stage", "tls", "trusted", "user"}
	clientAttrs   = attrNames{"address", "country", "name", "network"}
	tlsAttrs      = attrNames{"cipher", "verified", "version"}
	envelopeAttrs = attrNames{"recipient", "recipients", "sender", "size"}
	findingAttrs  = attrNames{"module", "name", "part", "reason", "result", "score", "symbol"}
)

func (s *session) String() string      { return "<session>" }
func (s *session) Type() string        { return "session" }
func (s *session) AttrNames() []string { return sessionAttrs }

// Attr implements starlark.HasAttrs.
func (s *session) Attr(name string) (starlark.Value, error) {
	in := s.c.in
	switch name {
	case "client":
		s.client.c = s.c
		return &s.client, nil
	case "envelope":
		if in.Envelope == nil {
			return nil, tooEarly("envelope", Recipient, Content)
		}
		s.envelope.c = s.c
		return &s.envelope, nil
	case "findings":
		return s.findingList()
	case "found":
		return bind("found", found), nil
	case "message":
		if in.Message == nil {
			return nil, tooEarly("message", Content)
		}
		s.message.c = s.c
		return &s.message, nil
	case "login", "password":
		if in.Stage != Auth {
			return nil, tooEarly(name, Auth)
		}
		if name == "login" {
			return starlark.String(in.Login), nil
		}
		return starlark.String(in.Password), nil
	case "score":
		return starlark.Float(in.Score + s.c.result.Score), nil
	case "stage":
		return starlark.String(in.Stage), nil
	}
	return s.connection(name)
}

// connection is the attributes that are those of the connection itself.
func (s *session) connection(name string) (starlark.Value, error) {
	in := s.c.in
	switch name {
	case "esmtp":
		return starlark.Bool(in.Session.ESMTP), nil
	case "helo":
		return starlark.String(in.Session.Helo), nil
	case "listener":
		return starlark.String(in.Session.Listener), nil
	case "tls":
		s.tls.tls = &in.Session.TLS
		return &s.tls, nil
	case "trusted":
		return starlark.Bool(in.Session.Trusted), nil
	case "user":
		return starlark.String(in.Session.User), nil
	}
	return nil, nil
}

// tooEarly says where data is there that is not there yet.
func tooEarly(what string, at ...Stage) error {
	text := "def " + string(at[0]) + "(s)"
	for _, s := range at[1:] {
		text += " and def " + string(s) + "(s)"
	}
	return fmt.Errorf("s.%s is there in %s only", what, text)
}

func (s *session) findingList() (starlark.Value, error) {
	if s.findings == nil {
		list := make([]starlark.Value, len(s.c.in.Findings))
		all := make([]finding, len(list))
		for i := range list {
			all[i].f = &s.c.in.Findings[i]
			list[i] = &all[i]
		}
		if err := s.c.charge(int64(len(list)) * (sizeValue + sizeObject)); err != nil {
			return nil, err
		}
		s.findings = starlark.NewList(list)
		s.findings.Freeze()
	}
	return s.findings, nil
}

// found is s.found(module, symbol): whether the module reported it. Without a
// symbol: whether it has anything against the client or the message.
func found(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var module, symbol string
	if err := starlark.UnpackArgs("found", args, kwargs, "module", &module, "symbol?", &symbol); err != nil {
		return nil, err
	}
	for i := range c.in.Findings {
		f := &c.in.Findings[i]
		if f.Module == module && (f.Symbol == symbol || symbol == "" && f.Result == mail.Match) {
			return starlark.True, nil
		}
	}
	return starlark.False, nil
}

type client struct {
	object
	c *call
}

func (v *client) String() string      { return v.c.in.Session.Client.Addr().String() }
func (v *client) Type() string        { return "client" }
func (v *client) AttrNames() []string { return clientAttrs }

// Attr implements starlark.HasAttrs.
func (v *client) Attr(name string) (starlark.Value, error) {
	s := v.c.in.Session
	addr := s.Client.Addr().Unmap()
	switch name {
	case "address":
		return starlark.String(addr.String()), nil
	case "network":
		return starlark.String(network(addr).String()), nil
	case "name":
		return starlark.String(s.Name), nil
	case "country":
		source := v.c.sources().Countries
		if source == nil {
			return starlark.String(""), nil
		}
		return starlark.String(source.Country(addr)), nil
	}
	return nil, nil
}

// network is what a client's neighbours share: the /24 or the /64.
func network(addr netip.Addr) netip.Prefix {
	bits := 24
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

type encryption struct {
	object
	tls *mail.TLS
}

func (v *encryption) String() string       { return v.tls.Version }
func (v *encryption) Type() string         { return "tls" }
func (v *encryption) Truth() starlark.Bool { return starlark.Bool(v.tls.Active()) }
func (v *encryption) AttrNames() []string  { return tlsAttrs }

// Attr implements starlark.HasAttrs.
func (v *encryption) Attr(name string) (starlark.Value, error) {
	switch name {
	case "version":
		return starlark.String(v.tls.Version), nil
	case "cipher":
		return starlark.String(v.tls.Cipher), nil
	case "verified":
		return starlark.Bool(v.tls.Verified), nil
	}
	return nil, nil
}

type envelope struct {
	object
	c          *call
	recipients *starlark.List
}

func (v *envelope) String() string      { return "<envelope>" }
func (v *envelope) Type() string        { return "envelope" }
func (v *envelope) AttrNames() []string { return envelopeAttrs }

// Attr implements starlark.HasAttrs.
func (v *envelope) Attr(name string) (starlark.Value, error) {
	env := v.c.in.Envelope
	switch name {
	case "sender":
		return starlark.String(env.Sender.Key()), nil
	case "recipient":
		v.c.result.Personal = true
		if v.c.in.Recipient == nil {
			return starlark.String(""), nil
		}
		return starlark.String(v.c.in.Recipient.Address.Key()), nil
	case "recipients":
		return v.recipientList()
	case "size":
		return starlark.MakeInt64(env.Size), nil
	}
	return nil, nil
}

func (v *envelope) recipientList() (starlark.Value, error) {
	if v.recipients == nil {
		env := v.c.in.Envelope
		list := make([]starlark.Value, len(env.Recipients))
		for i := range list {
			list[i] = starlark.String(env.Recipients[i].Address.Key())
		}
		if err := v.c.charge(int64(len(list)) * 4 * sizeObject); err != nil {
			return nil, err
		}
		v.recipients = starlark.NewList(list)
		v.recipients.Freeze()
	}
	return v.recipients, nil
}

type finding struct {
	object
	f *mail.Finding
}

func (v *finding) String() string {
	return fmt.Sprintf("<%s %s %s %g>", v.f.Module, v.f.Symbol, v.f.Result, v.f.Score)
}
func (v *finding) Type() string        { return "finding" }
func (v *finding) AttrNames() []string { return findingAttrs }

// Attr implements starlark.HasAttrs.
func (v *finding) Attr(name string) (starlark.Value, error) {
	switch name {
	case "module":
		return starlark.String(v.f.Module), nil
	case "symbol":
		return starlark.String(v.f.Symbol), nil
	case "result":
		return starlark.String(v.f.Result), nil
	case "score":
		return starlark.Float(v.f.Score), nil
	case "reason":
		return starlark.String(v.f.Reason), nil
	case "name":
		return starlark.String(v.f.Name), nil
	case "part":
		return starlark.String(v.f.Part), nil
	}
	return nil, nil
}
