package access

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"
)

// geo knows where addresses belong, from databases of MaxMind's format.
type geo struct {
	cfg       Config
	databases []*watched[maxminddb.Reader]
}

// addGeo opens the databases, if any are needed.
func (c *Check) addGeo() error {
	cfg := &c.cfg
	asked := len(cfg.AllowASNs)+len(cfg.DenyASNs)+len(cfg.AllowCountries)+len(cfg.DenyCountries) > 0
	switch {
	case !asked && len(cfg.Databases) == 0:
		return nil
	case !asked:
		return errors.New("access: mmdb_file: no country and no ASN is asked for")
	case len(cfg.Databases) == 0:
		return errors.New("access: countries and ASNs need an mmdb_file")
	}
	cfg.AllowCountries, cfg.DenyCountries = upper(cfg.AllowCountries), upper(cfg.DenyCountries)
	for _, country := range slices.Concat(cfg.AllowCountries, cfg.DenyCountries) {
		if len(country) != 2 || strings.Trim(country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return fmt.Errorf("access: countries: %q is no code of two letters", short(country))
		}
	}
	g := &geo{cfg: *cfg}
	for _, path := range cfg.Databases {
		w := newWatched(path, *cfg, openDatabase)
		if err := w.first(); err != nil {
			return fmt.Errorf("access: mmdb_file: %w", err)
		}
		g.databases = append(g.databases, w)
	}
	c.geo = g
	return nil
}

func upper(list []string) []string {
	list = slices.Clone(list)
	for i := range list {
		list[i] = strings.ToUpper(list[i])
	}
	return list
}

// openDatabase reads a database from memory: one that is mapped would end the
// process when somebody shortens the file.
func openDatabase(b []byte) (*maxminddb.Reader, error) {
	db, err := maxminddb.OpenBytes(b)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return db, nil
}

// record is what of a database is of use here.
type record struct {
	ASN     uint32 `maxminddb:"autonomous_system_number"`
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	// Registered is where the owner of the network is at home.
	Registered struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"registered_country"`
}

// place returns what the databases know of an address. One that cannot be decoded
// knows nothing.
func (g *geo) place(client netip.Addr) (asn uint32, country string) {
	for _, w := range g.databases {
		var r record
		if err := w.get().Lookup(client).Decode(&r); err != nil {
			continue
		}
		if asn == 0 {
			asn = r.ASN
		}
		if country == "" {
			country = r.Country.Code
		}
		if country == "" {
			country = r.Registered.Code
		}
	}
	return asn, strings.ToUpper(country)
}

// lookup returns what the lists of ASNs, and then those of countries, say.
func (g *geo) lookup(client netip.Addr) hit {
	asn, country := g.place(client)
	if asn != 0 {
		entry := "AS" + strconv.FormatUint(uint64(asn), 10)
		switch {
		case slices.Contains(g.cfg.AllowASNs, asn):
			return hit{found: true, allow: true, entry: entry}
		case slices.Contains(g.cfg.DenyASNs, asn):
			return hit{found: true, entry: entry}
		}
	}
	switch {
	case country == "":
	case slices.Contains(g.cfg.AllowCountries, country):
		return hit{found: true, allow: true, entry: country}
	case slices.Contains(g.cfg.DenyCountries, country):
		return hit{found: true, entry: country}
	}
	return hit{}
}
