package milter

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// macros sends macros for the next command: names and values by turns. Those
// without a value are left out.
func (t *talk) macros(before byte, pairs ...string) error {
	data := []byte{before}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			data = append(data, texts(pairs[i], line(pairs[i+1]))...)
		}
	}
	return writePacket(t.w, cmdMacro, data)
}

// line makes one line of what a client said.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// client is who connected. Nobody has where the message was fetched from a mailbox: the
// client is the one who reads, and milters must not take him for a user who sends.
func (t *talk) client() *mail.Session {
	if s := &t.env.Session; s.Protocol != mail.POP3 {
		return s
	}
	return &mail.Session{Listener: t.env.Session.Listener, Name: "mailbox"}
}

// session tells who connected.
func (t *talk) session() error {
	s := t.client()
	addr := s.Client.Addr().Unmap()
	connect := command{code: cmdConnect, skip: noConnect, quiet: quietConnect}
	name, text, port := s.Name, "", ""
	if addr.IsValid() {
		text, port = addr.WithZone("").String(), strconv.Itoa(int(s.Client.Port()))
		if name == "" {
			name = "[" + text + "]"
		}
		family := byte('4')
		if addr.Is6() {
			family = '6'
		}
		connect.data = append(texts(line(name)), family)
		connect.data = binary.BigEndian.AppendUint16(connect.data, s.Client.Port())
		connect.data = append(connect.data, texts(text)...)
	} else {
		name = cmp.Or(name, "localhost")
		connect.data = append(texts(name), 'U')
	}
	if err := t.macros(cmdConnect, "j", t.s.cfg.Hostname, "{daemon_name}", s.Listener, "v", "Gatepost",
		"_", name+" ["+text+"]", "{client_addr}", text, "{client_name}", name, "{client_port}", port); err != nil {
		return err
	}
	if _, err := t.say(connect); err != nil {
		return err
	}
	if err := t.macros(cmdHelo, "{tls_version}", s.TLS.Version, "{cipher}", s.TLS.Cipher); err != nil {
		return err
	}
	_, err := t.say(command{code: cmdHelo, skip: noHelo, quiet: quietHelo, data: texts(line(s.Helo))})
	return err
}

// envelope tells sender and recipients. A recipient that the milter refuses is a
// finding of its own, and the rest goes on as long as one is left.
func (t *talk) envelope() error {
	env := t.env
	protocol := "SMTP"
	client := t.client()
	if client.ESMTP {
		protocol = "ESMTP"
	}
	if err := t.macros(cmdMail, "i", env.ID.String(), "{auth_authen}", client.User, "{mail_addr}", env.GivenSender().String(),
		"{mail_host}", env.GivenSender().Domain, "{mail_mailer}", "smtp", "b", message.FormatDate(env.Received), "r", protocol, "s", client.Helo); err != nil {
		return err
	}
	args := []string{path(env.GivenSender()), "SIZE=" + strconv.FormatInt(t.in.Message.Body.Size(), 10)}
	if env.Body != "" {
		args = append(args, "BODY="+string(env.Body))
	}
	if env.SMTPUTF8 {
		args = append(args, "SMTPUTF8")
	}
	if _, err := t.say(command{code: cmdMail, skip: noMail, quiet: quietMail, data: texts(args...)}); err != nil {
		return err
	}
	refused := len(t.findings)
	for i := range env.Recipients {
		if err := t.recipient(&env.Recipients[i]); err != nil {
			return err
		}
	}
	if n := len(t.findings) - refused; n > 0 && n == len(env.Recipients) {
		return errDecided // nobody is left
	}
	if t.version < 4 {
		return nil
	}
	if err := t.macros(cmdData, "i", env.ID.String()); err != nil {
		return err
	}
	_, err := t.say(command{code: cmdData, skip: noData, quiet: quietData})
	return err
}

func (t *talk) recipient(r *mail.Recipient) error {
	address := asked(r)
	if err := t.macros(cmdRcpt, "{rcpt_addr}", address.String(), "{rcpt_host}", address.Domain, "{rcpt_mailer}", r.Route.Transport); err != nil {
		return err
	}
	_, err := t.say(command{code: cmdRcpt, skip: noRcpt, quiet: quietRcpt, data: texts(path(address)), recipient: address.Key()})
	return err
}

// asked is the address as RCPT named it, as a milter of any MTA would see it.
func asked(r *mail.Recipient) mail.Address {
	if r.Original.IsNull() {
		return r.Address
	}
	return r.Original
}

func path(a mail.Address) string { return "<" + line(a.String()) + ">" }

// malformed is the name under which a milter sees a line that is no field, so
// that it sees all there is.
const malformed = "X-Malformed"

// header sends the fields and the end of the header section.
func (t *talk) header() error {
	for _, f := range t.seen {
		name, value := f.Name, f.Raw()
		if name == "" {
			name = malformed
		} else if colon := strings.IndexByte(value, ':'); colon >= 0 {
			value = value[colon+1:]
		}
		value = strings.TrimSuffix(strings.ReplaceAll(value, "\r\n", "\n"), "\n")
		if t.steps&leadingSpace == 0 {
			value = strings.TrimPrefix(value, " ")
		}
		data := texts(name, value)
		if len(data) > maxData {
			return fmt.Errorf("the header field %s has %d bytes, more than a milter can be shown", message.SafeText(name, 60), len(data))
		}
		if _, err := t.say(command{code: cmdHeader, skip: noHeaders, quiet: quietHeader, data: data}); err != nil {
			return err
		}
	}
	if err := t.macros(cmdEOH, "i", t.env.ID.String()); err != nil {
		return err
	}
	_, err := t.say(command{code: cmdEOH, skip: noEOH, quiet: quietEOH})
	return err
}
