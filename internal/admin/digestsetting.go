package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"gatepost/internal/accounts"
	"gatepost/internal/quarantine"
)

// Digests knows when people get digests.
type Digests interface {
	// Setting tells when an address gets them.
	Setting(ctx context.Context, address string) (quarantine.DigestSetting, error)
	// Choose changes that.
	Choose(ctx context.Context, s quarantine.DigestSetting) error
}

// DigestSettings are those of some addresses.
type DigestSettings struct {
	Items []quarantine.DigestSetting `json:"items"`
}

// DigestChoice is the body of a request that changes when an address gets digests.
type DigestChoice struct {
	Address string           `json:"address"`
	Often   quarantine.Often `json:"often"`
	// Hour is that of the day, 0 to 23.
	Hour int `json:"hour"`
}

func (s *Server) routeDigests(r *router) {
	r.add(
		Route{Method: "GET", Path: "/api/v1/digests", Permission: accounts.QuarantineRead, Scope: accounts.Own, Do: s.digestSettings, Doc: &Doc{
			Summary: "Tell when digests are sent", Query: []string{"address: whose; default: the own ones"}, Out: DigestSettings{}}},
		Route{Method: "POST", Path: "/api/v1/digests", Permission: accounts.QuarantineWrite, Scope: accounts.Own, Act: "change digests", Do: s.chooseDigest,
			Doc: &Doc{Summary: "Change when an address gets digests: daily, weekly or never", In: DigestChoice{}, Out: quarantine.DigestSetting{}}},
	)
}

func (s *Server) digestSettings(w http.ResponseWriter, r *http.Request, a *Actor) {
	addresses := a.Addresses
	if address := r.URL.Query().Get("address"); address != "" {
		addresses = []string{address}
	}
	found := DigestSettings{Items: []quarantine.DigestSetting{}}
	for _, address := range addresses {
		if err := a.seesDigest(address); err != nil {
			failWith(w, err)
			return
		}
		one, err := s.cfg.Digests.Setting(r.Context(), address)
		if err != nil {
			failWith(w, err)
			return
		}
		found.Items = append(found.Items, one)
	}
	answer(w, http.StatusOK, found)
}

func (s *Server) chooseDigest(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c DigestChoice
	if !decode(w, r, &c) {
		return
	}
	err := a.seesDigest(c.Address)
	if err == nil {
		a.Note(fmt.Sprintf("%s %s %d", c.Address, c.Often, c.Hour))
		err = s.cfg.Digests.Choose(r.Context(), quarantine.DigestSetting{Address: c.Address, Often: c.Often, Hour: c.Hour})
	}
	var now quarantine.DigestSetting
	if err == nil {
		now, err = s.cfg.Digests.Setting(r.Context(), c.Address)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, now)
}

// seesDigest fails for addresses that are none of the actor's business.
func (a *Actor) seesDigest(address string) error {
	if !a.Sees(address) {
		return fmt.Errorf("%w: %.320q is no address of yours", quarantine.ErrNotFound, address)
	}
	return nil
}

// ReadDigestForm reads the fields "often" and "hour" of a form.
func ReadDigestForm(r *http.Request, address string) (quarantine.DigestSetting, error) {
	hour, err := strconv.Atoi(r.PostFormValue("hour"))
	if err != nil {
		return quarantine.DigestSetting{}, errors.New("say at which hour, 0 to 23")
	}
	return quarantine.DigestSetting{Address: address, Often: quarantine.Often(r.PostFormValue("often")), Hour: hour}, nil
}
