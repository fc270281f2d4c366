package config

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"slices"
)

// adminRoles are the roles that a provider of OpenID Connect may give.
var adminRoles = []string{"administrator", "operator", "viewer", "domain-administrator", "end-user"}

func (v *validator) checkAdmin() {
	a := &v.cfg.Admin
	ip := a.Listen.IP()
	public := !a.Listen.IsZero() && (!ip.IsValid() || !ip.IsLoopback()) && a.TLSCertFile == ""
	if a.MetricsTokenFile != "" {
		v.secret(&a.MetricsTokenFile, "token")
		if public {
			v.warn(ruleWarnToken, &a.Listen, "the token for /metrics travels over the network in the clear", "set tls_cert_file and tls_key_file, or listen on 127.0.0.1")
		}
	}
	if public && a.Web && len(a.TrustedProxies) == 0 {
		v.warn(ruleWarnClearWeb, &a.Listen, "passwords for the administration travel over the network in the clear", "set tls_cert_file and tls_key_file, or listen on 127.0.0.1, or set trusted_proxies where a reverse proxy speaks TLS")
	}
	uniqueNames(v, a.OIDC, func(o *AdminOIDC) *Name { return &o.Name })
	for i := range a.OIDC {
		v.checkOIDC(&a.OIDC[i])
	}
	uniqueNames(v, a.Webhooks, func(w *AdminWebhook) *Name { return &w.Name })
	for i := range a.Webhooks {
		v.checkWebhook(&a.Webhooks[i])
	}
}

func (v *validator) checkWebhook(w *AdminWebhook) {
	v.secret(&w.SecretFile, "secret")
	if w.TLSCAFile != "" {
		v.authorities(&w.TLSCAFile)
	}
	unique(v, ruleDuplicateElement, w.Events)
	u, err := url.Parse(w.URL)
	local := err == nil && u.Scheme == "http" && w.AllowPrivate
	if v.ok(&w.URL) && (err != nil || u.Scheme != "https" && !local || u.Host == "" || u.User != nil || u.Fragment != "") {
		v.report(ruleBadURL, &w.URL, "is not https://HOST/…", "")
	}
	if w.SecretFile == "" || !v.ok(&w.SecretFile) {
		return
	}
	if data, ok := v.read(&w.SecretFile); ok {
		line, _, _ := bytes.Cut(data, []byte("\n"))
		if line = bytes.TrimSpace(line); len(line) > 0 && len(line) < 16 {
			v.report(ruleFileEmpty, &w.SecretFile, "the secret has less than 16 bytes", "such as the output of: openssl rand -base64 32")
		}
	}
}

func (v *validator) checkOIDC(o *AdminOIDC) {
	v.secret(&o.ClientSecretFile, "secret")
	if v.cfg.Admin.BaseURL == "" {
		v.report(ruleRequired, o, "needs base_url in [admin]: the provider sends people back there", `such as base_url = "https://gw.example.com"`)
	}
	u, err := url.Parse(o.Issuer)
	local := err == nil && u.Scheme == "http" && o.AllowPrivate
	if v.ok(&o.Issuer) && (err != nil || u.Scheme != "https" && !local || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		v.report(ruleBadURL, &o.Issuer, fmt.Sprintf("%q is not https://HOST/…", o.Issuer), "")
	}
	if !slices.Contains(o.Scopes, "openid") && v.ok(&o.Scopes) {
		v.report(ruleRequired, &o.Scopes, `has no "openid"`, "")
	}
	for value, role := range o.Roles {
		if !slices.Contains(adminRoles, role) {
			v.report(ruleBadChoice, &o.Roles, fmt.Sprintf("%q is no role, for %q", role, value), "one of "+quotedList(adminRoles))
		}
	}
	if len(o.Roles) == 0 && o.DefaultRole == "" && v.ok(&o.Roles) {
		v.report(ruleRequired, &o.Roles, "neither roles nor default_role: nobody would get in", `such as roles = { "mail admins" = "administrator" }`)
	}
	if o.DomainsClaim == "" && (o.DefaultRole == "domain-administrator" || slices.Contains(slices.Collect(maps.Values(o.Roles)), "domain-administrator")) {
		v.report(ruleRequired, &o.DomainsClaim, "is needed for domain administrators", `such as domains_claim = "mail_domains"`)
	}
}
