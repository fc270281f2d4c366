package access

import (
	"fmt"
	"log/slog"
	"net/netip"
)

// Places knows the countries of addresses for those who ask beside the check.
type Places struct{ geo geo }

// OpenPlaces reads databases of MaxMind's format, and reads them again when they
// change. log may be nil.
func OpenPlaces(databases []string, log *slog.Logger) (*Places, error) {
	p := &Places{geo: geo{cfg: Config{Databases: databases, Log: log}.withDefaults()}}
	for _, path := range databases {
		w := newWatched(path, p.geo.cfg, openDatabase)
		if err := w.first(); err != nil {
			return nil, fmt.Errorf("access: mmdb_file: %w", err)
		}
		p.geo.databases = append(p.geo.databases, w)
	}
	return p, nil
}

// Country returns the code of the country that an address is in, "" where nobody knows.
func (p *Places) Country(addr netip.Addr) string {
	_, country := p.geo.place(addr.Unmap().WithZone(""))
	return country
}
