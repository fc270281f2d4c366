package config

import (
	"net/netip"
	"time"
)

// Admin is the HTTP service: the web administration, the API under `/api/v1`, the
// links of digests, `/healthz`, which says whether Gatepost is ready and if not, why,
// and `/metrics` with figures for Prometheus. See docs/web.md.
type Admin struct {
	// Address and port of the service. Empty: off.
	Listen HostPort `toml:"listen" default:"" port:"required" example:"127.0.0.1:8025"`
	// Certificate (with its chain, PEM) to serve HTTPS with.
	TLSCertFile Path `toml:"tls_cert_file" default:"" example:"/etc/gatepost/admin.pem"`
	// Private key of that certificate.
	TLSKeyFile Path `toml:"tls_key_file" default:"" example:"/etc/gatepost/admin.key"`
	// File with the bearer token that `/metrics` asks for. Empty: only clients
	// on this host may read it.
	MetricsTokenFile Path `toml:"metrics_token_file" default:"" example:"/etc/gatepost/metrics.token"`
	// How people reach this service: the links in digests begin with it, and with
	// https cookies are for https only. Scheme, host and perhaps a port; never taken
	// from a request.
	BaseURL BaseURL `toml:"base_url" default:"" example:"https://gw.example.com"`
	// Serve the pages of the administration and the API, too, to who logs in.
	Web bool `toml:"web" default:"true"`
	// Reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies []netip.Prefix `toml:"trusted_proxies" default:"[]" example:"[\"127.0.0.1/32\"]"`
	// A session that is not used for so long ends.
	SessionIdle time.Duration `toml:"session_idle" default:"1h" min:"1m" max:"7d"`
	// Every session ends after so long.
	SessionLife time.Duration `toml:"session_life" default:"12h" min:"5m" max:"30d"`
	// How long the audit log is kept: who did what here.
	AuditKeep time.Duration `toml:"audit_keep" default:"365d" min:"1d" max:"3650d"`
	// The flow of the stage auth by which end users log in, to see to their own mail.
	Flows AdminFlows `toml:"flows" example:"{ auth = \"users\" }"`
	// Providers of OpenID Connect by which people may log in.
	OIDC []AdminOIDC `toml:"oidc"`
	// Web services that are told about events.
	Webhooks []AdminWebhook `toml:"webhook"`
}

// AdminWebhook is a web service that is told about events, each in a signed POST of
// its own; see docs/web.md.
type AdminWebhook struct {
	// Name in the log.
	Name Name `toml:"name" required:"true" example:"chat"`
	// Where events are sent, https, or http with allow_private.
	URL string `toml:"url" required:"true" example:"https://hooks.example.com/gatepost"`
	// Which events. Empty: all.
	Events []string `toml:"events" default:"[]" enum:"connect,login,sender,recipient,message,scanned,attempt,report,quarantine,release,delete,train,request,fetch,session,admin" example:"[\"quarantine\", \"release\", \"admin\"]"`
	// File whose first line is the secret that requests are signed with, at least 16
	// bytes, as it is or, after "whsec_", in base64.
	SecretFile Path `toml:"secret_file" required:"true" example:"webhook.secret"`
	// The certificates or certificate authorities that are trusted, PEM. Empty: those of
	// the system.
	TLSCAFile Path `toml:"tls_ca_file" default:"" example:"hooks-ca.pem"`
	// How long a request may take.
	Timeout time.Duration `toml:"timeout" default:"10s" min:"1s" max:"1m"`
	// Whether it may be on this host or in a private network.
	AllowPrivate bool `toml:"allow_private" default:"false"`
}

// AdminFlows names the flow that knows end users.
type AdminFlows struct {
	// Who is let in by it is an end user, with the addresses that it says are theirs.
	// Empty: none.
	Auth Name `toml:"auth" default:"" example:"users"`
}

// AdminOIDC is a provider of OpenID Connect: people log in there, and its claims say
// what they are here. The address to register with it is BASE_URL/login/oidc/NAME/back.
type AdminOIDC struct {
	// Name in addresses of pages.
	Name Name `toml:"name" required:"true" example:"company"`
	// What stands on the button. Empty: the name.
	Label string `toml:"label" default:"" example:"Example Ltd."`
	// The provider's issuer; what else is needed is read from there.
	Issuer string `toml:"issuer" required:"true" example:"https://login.example.com/realms/staff"`
	// What the provider knows this gateway by.
	ClientID string `toml:"client_id" required:"true" example:"gatepost"`
	// File whose first line is the secret for that; empty for a public client. PKCE
	// is used in any case.
	ClientSecretFile Path `toml:"client_secret_file" default:"" example:"oidc.secret"`
	// What is asked for.
	Scopes []string `toml:"scopes" default:"[\"openid\", \"profile\", \"email\"]"`
	// The claim that is the name of the account.
	NameClaim string `toml:"name_claim" default:"email" example:"preferred_username"`
	// The claim, a text or a list, by which roles are given.
	RoleClaim string `toml:"role_claim" default:"groups" example:"roles"`
	// The role for each value of that claim: administrator, operator, viewer,
	// domain-administrator or end-user. Of several the one that may most.
	Roles Texts `toml:"roles" example:"{ \"mail admins\" = \"administrator\", \"helpdesk\" = \"operator\" }"`
	// The role of those for whom no value fits. Empty: they are not let in.
	DefaultRole string `toml:"default_role" default:"" enum:",operator,viewer,domain-administrator,end-user"`
	// The claim with the domains of a domain administrator, a text or a list.
	DomainsClaim string `toml:"domains_claim" default:"" example:"mail_domains"`
	// The claim with the addresses of an end user beside the verified email; a text
	// or a list.
	AddressesClaim string `toml:"addresses_claim" default:"" example:"mail_aliases"`
	// Whether the provider may be on this host or in a private network.
	AllowPrivate bool `toml:"allow_private" default:"false"`
}
