package pages

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"rsc.io/qr"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/quarantine"
)

// account is what everybody sees of themselves: password, second factor, tokens and
// sessions.
func (s *Site) account() section {
	own := func(method, path, act string, do admin.Handler) admin.Route {
		return admin.Route{Method: method, Path: path, Permission: accounts.Self, Scope: accounts.Own, Act: act, Do: do}
	}
	return section{
		said: map[string]string{
			"password": "Your password is changed. Your other sessions have ended.",
			"totp-on":  "The second factor is on. Your other sessions have ended.",
			"totp-off": "The second factor is off.",
			"session":  "The session has ended.", "sessions": "All your other sessions have ended.",
			"token-gone": "The token works no more.", "digest": "Digests come as you chose.",
		},
		routes: []admin.Route{
			own("GET", "/account", "", s.showAccount),
			own("POST", "/account/password", "change own password", s.changePassword),
			own("POST", "/account/totp", "begin second factor", s.offerTOTP),
			own("POST", "/account/totp/confirm", "turn second factor on", s.confirmTOTP),
			own("POST", "/account/totp/remove", "turn second factor off", s.removeTOTP),
			own("POST", "/account/tokens", "make token", s.makeToken),
			own("POST", "/account/tokens/delete", "end token", s.deleteToken),
			own("POST", "/account/sessions/end", "end session", s.endSession),
			{Method: "POST", Path: "/account/digest", Permission: accounts.QuarantineWrite, Scope: accounts.Own, Act: "change digests", Do: s.chooseDigest},
		},
	}
}

// accountView is what the page shows.
type accountView struct {
	// Account is nil for those who have none in the store.
	Account  *accounts.Account
	Sessions []*accounts.Session
	Tokens   []*accounts.Token
	// Scopes are what a token may have.
	Scopes []accounts.Permission
	// Offer is a second factor to confirm, with its QR code.
	Offer *accounts.Offer
	QR    *qrPicture
	// Secret is that of a token that was just made.
	Secret string
	// Digests are when the own addresses get them.
	Digests []quarantine.DigestSetting
}

// Oftens are what can be chosen.
func (accountView) Oftens() []quarantine.Often { return quarantine.Oftens() }

func (s *Site) showAccount(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s.accountPage(w, r, a, accountView{}, nil)
}

func (s *Site) accountPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, v accountView, failed error) {
	ctx := r.Context()
	var err error
	if v.Sessions, err = s.accounts.Sessions(ctx, a.Account); err == nil && a.Kind == accounts.Local {
		if v.Account, err = s.accounts.Get(ctx, a.Account); err == nil {
			v.Tokens, err = s.accounts.Tokens(ctx, a.Account)
		}
	}
	if err != nil {
		s.Refuse(w, r, a, http.StatusServiceUnavailable, sentence(err.Error()))
		return
	}
	if v.Digests, err = s.digestsOf(r, a); err != nil && failed == nil {
		failed = err
	}
	for _, p := range accounts.Permissions() {
		if a.May(p) {
			v.Scopes = append(v.Scopes, p)
		}
	}
	p := page{Template: "account.html", Title: "My account", Data: v}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	s.show(w, r, a, p)
}

// digestsOf is when the own addresses get digests.
func (s *Site) digestsOf(r *http.Request, a *admin.Actor) ([]quarantine.DigestSetting, error) {
	if s.cfg.Digests == nil || !a.May(accounts.QuarantineWrite) {
		return nil, nil
	}
	var list []quarantine.DigestSetting
	for _, address := range a.Addresses {
		one, err := s.cfg.Digests.Setting(r.Context(), address)
		if err != nil {
			return list, err
		}
		list = append(list, one)
	}
	return list, nil
}

func (s *Site) chooseDigest(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	address := r.PostFormValue("address")
	var err error
	switch {
	case s.cfg.Digests == nil:
		err = errors.New("no digests are sent here")
	case !slices.Contains(a.Addresses, address):
		err = errors.New("this is no address of yours")
	}
	var choice quarantine.DigestSetting
	if err == nil {
		choice, err = admin.ReadDigestForm(r, address)
	}
	if err == nil {
		a.Note(fmt.Sprintf("%s %s %d", address, choice.Often, choice.Hour))
		err = s.cfg.Digests.Choose(r.Context(), choice)
	}
	if err != nil {
		s.accountPage(w, r, a, accountView{}, err)
		return
	}
	s.back(w, r, "/account", "digest")
}

// known checks the present password, which what weakens or changes an account asks
// for: a browser that was left open is not enough.
func (s *Site) known(r *http.Request, a *admin.Actor) error {
	if a.Kind != accounts.Local {
		return errors.New("you log in elsewhere: change it there")
	}
	return s.cfg.Gate.Recheck(r, a, r.PostFormValue("current"))
}

func (s *Site) changePassword(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	err := s.known(r, a)
	if err == nil && r.PostFormValue("password") != r.PostFormValue("again") {
		err = errors.New("the new passwords are not the same")
	}
	if err == nil {
		err = s.accounts.SetPassword(r.Context(), a.Account, r.PostFormValue("password"), a.Session)
	}
	if err != nil {
		s.accountPage(w, r, a, accountView{}, err)
		return
	}
	s.back(w, r, "/account", "password")
}

func (s *Site) offerTOTP(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if err := s.known(r, a); err != nil {
		s.accountPage(w, r, a, accountView{}, err)
		return
	}
	offer, err := s.accounts.OfferTOTP(r.Context(), a.Account, s.cfg.Gate.Host(r))
	if err != nil {
		s.accountPage(w, r, a, accountView{}, err)
		return
	}
	s.accountPage(w, r, a, accountView{Offer: &offer, QR: picture(offer.URI)}, nil)
}

func (s *Site) confirmTOTP(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	err := s.accounts.ConfirmTOTP(r.Context(), a.Account, r.PostFormValue("code"), a.Session)
	if errors.Is(err, accounts.ErrWrong) {
		err = errors.New("the code is not right: look whether the clocks of both devices are, and begin again")
	}
	if err != nil {
		s.accountPage(w, r, a, accountView{}, err)
		return
	}
	s.back(w, r, "/account", "totp-on")
}

func (s *Site) removeTOTP(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	err := s.known(r, a)
	if err == nil {
		err = s.accounts.ResetTOTP(r.Context(), a.Account, a.Session)
	}
	if err != nil {
		s.accountPage(w, r, a, accountView{}, err)
		return
	}
	s.back(w, r, "/account", "totp-off")
}

func (s *Site) makeToken(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	t := accounts.Token{Account: a.Account, Name: r.PostFormValue("name")}
	for _, p := range r.PostForm["scope"] {
		t.Scopes = append(t.Scopes, accounts.Permission(p))
	}
	days, err := strconv.Atoi(r.PostFormValue("days"))
	if err != nil || !slices.Contains([]int{0, 1, 30, 90, 365}, days) {
		err = errors.New("say how long the token is good")
	}
	if err == nil && days > 0 {
		t.Expires = time.Now().UTC().AddDate(0, 0, days)
	}
	if err == nil && a.Kind != accounts.Local {
		err = errors.New("tokens are for accounts of this gateway only")
	}
	if err == nil && len(t.Scopes) == 0 {
		err = errors.New("a token without scopes could do nothing: choose one")
	}
	var secret string
	if err == nil {
		a.Note(fmt.Sprintf("token %s with %v", t.Name, t.Scopes))
		secret, _, err = s.accounts.CreateToken(r.Context(), t)
	}
	s.accountPage(w, r, a, accountView{Secret: secret}, err)
}

func (s *Site) deleteToken(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if err := s.accounts.DeleteToken(r.Context(), a.Account, r.PostFormValue("id")); err != nil && !errors.Is(err, accounts.ErrNotFound) {
		s.accountPage(w, r, a, accountView{}, err)
		return
	}
	s.back(w, r, "/account", "token-gone")
}

func (s *Site) endSession(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	id, said := r.PostFormValue("id"), "session"
	var err error
	if id == "others" {
		err, said = s.accounts.CloseOthers(r.Context(), a.Account, a.Session), "sessions"
	} else {
		err = s.accounts.Close(r.Context(), a.Account, id)
	}
	if err != nil {
		s.accountPage(w, r, a, accountView{}, err)
		return
	}
	s.back(w, r, "/account", said)
}

// qrPicture is a QR code as the path of an SVG picture: one square for each dark dot.
type qrPicture struct {
	Size int
	Path string
}

// picture draws a text; nil where it is too long.
func picture(text string) *qrPicture {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil
	}
	const quiet = 4 // ISO/IEC 18004: four dots around it stay light
	p := &qrPicture{Size: code.Size + 2*quiet}
	var b []byte
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				b = fmt.Appendf(b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	p.Path = string(b)
	return p
}
