package links

import "gatepost/internal/dns/dnslist"

// Zone is a list of domains in the DNS.
type Zone = dnslist.Zone

// ParseZone reads "zone", "zone=127.0.1.2" or "zone=127.0.1.2-99", each perhaps
// with "*score" behind it, as the configuration writes it.
func ParseZone(s string) (Zone, error) { return dnslist.ParseZone(s) }
