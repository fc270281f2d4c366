package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
)

// userCmd is for the accounts of the web administration.
type userCmd struct {
	Add       userAddCmd    `cmd:"" help:"Make an account; its password is asked for."`
	List      userListCmd   `cmd:"" help:"List the accounts."`
	Set       userSetCmd    `cmd:"" help:"Change role, domains or addresses, disable or enable."`
	Passwd    userPasswdCmd `cmd:"" help:"Set a password; all sessions of the account end."`
	TOTPReset userTOTPCmd   `cmd:"" name:"totp-reset" help:"Take the second factor off an account."`
	Delete    userDeleteCmd `cmd:"" help:"Delete an account with its sessions and tokens."`
	Token     userTokenCmd  `cmd:"" help:"Make, list and end API tokens."`
}

const usersPath = "/api/v1/users"

func userPath(name string, more ...string) string {
	u := (&url.URL{}).JoinPath(append([]string{usersPath, strings.ToLower(name)}, more...)...)
	return u.Path
}

// del asks for something to be deleted.
func (c *client) del(path string) error {
	u := url.URL{Scheme: "http", Host: "gatepost", Path: path}
	return c.do(http.MethodDelete, u.String(), nil, &struct{}{})
}

// userAddCmd makes an account.
type userAddCmd struct {
	control    `embed:""`
	Name       string   `arg:"" help:"Small letters, digits and ._-@+; an address is fine."`
	Role       string   `default:"administrator" enum:"administrator,operator,viewer,domain-administrator,end-user" help:"What it may do: ${enum} (default: ${default})."`
	Domains    []string `name:"domain" placeholder:"DOMAIN" help:"Domain of a domain administrator; may come again."`
	Addresses  []string `name:"address" placeholder:"ADDRESS" help:"Address of an end user; may come again."`
	NoPassword bool     `help:"Make it without a password: nobody can log in with it yet."`
}

// Help is the long help text.
func (*userAddCmd) Help() string {
	return `Asks for the password twice, without showing it; where standard input is no
terminal, its first line is the password.

  gatepost user add ada
  gatepost user add helpdesk --role operator`
}

// Run implements the subcommand.
func (c *userAddCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	u := admin.UserRequest{Name: c.Name, Role: accounts.Role(c.Role), Domains: c.Domains, Addresses: c.Addresses}
	if !c.NoPassword {
		if u.Password, err = readPassword(os.Stdin, t.err); err != nil {
			return err
		}
	}
	var made accounts.Account
	if err := g.post(usersPath, u, &made); err != nil {
		return err
	}
	return c.showAccounts(t, []*accounts.Account{&made})
}

// showAccounts prints accounts.
func (c *control) showAccounts(t *terminal, all []*accounts.Account) error {
	if c.JSON {
		return t.json(all)
	}
	var rows table
	rows.add("NAME", "ROLE", "FOR", "PASSWORD", "SECOND FACTOR", "LAST LOGIN")
	for _, a := range all {
		last := "never"
		if !a.LastLogin.IsZero() {
			last = a.LastLogin.Local().Format(time.DateTime)
		}
		rows.add(a.Name, string(a.Role)+disabled(a), orDash(strings.Join(append(a.Domains, a.Addresses...), " ")), yesNo(a.HasPassword), yesNo(a.HasTOTP), last)
	}
	return t.print(rows.text())
}

func disabled(a *accounts.Account) string {
	if a.Disabled {
		return " (disabled)"
	}
	return ""
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// userListCmd lists accounts.
type userListCmd struct {
	control `embed:""`
}

// Run implements the subcommand.
func (c *userListCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var all []*accounts.Account
	if err := g.get(usersPath, nil, &all); err != nil {
		return err
	}
	return c.showAccounts(t, all)
}

// userSetCmd changes an account.
type userSetCmd struct {
	control   `embed:""`
	Name      string   `arg:"" help:"Name of the account."`
	Role      string   `default:"" enum:",administrator,operator,viewer,domain-administrator,end-user" help:"What it may do from now on."`
	Domains   []string `name:"domain" placeholder:"DOMAIN" help:"Domain of a domain administrator, in place of all before; may come again."`
	Addresses []string `name:"address" placeholder:"ADDRESS" help:"Address of an end user, in place of all before; may come again."`
	Disable   bool     `xor:"able" help:"Let nobody in with it."`
	Enable    bool     `xor:"able" help:"Let people in with it again."`
}

// Run implements the subcommand.
func (c *userSetCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var was, now accounts.Account
	if err := g.get(userPath(c.Name), nil, &was); err != nil {
		return err
	}
	u := admin.UserRequest{Role: was.Role, Domains: was.Domains, Addresses: was.Addresses, Disabled: (was.Disabled || c.Disable) && !c.Enable}
	if c.Role != "" {
		u.Role = accounts.Role(c.Role)
	}
	if len(c.Domains) > 0 {
		u.Domains = c.Domains
	}
	if len(c.Addresses) > 0 {
		u.Addresses = c.Addresses
	}
	if err := g.request(http.MethodPut, userPath(c.Name), u, &now); err != nil {
		return err
	}
	return c.showAccounts(t, []*accounts.Account{&now})
}

// userPasswdCmd sets a password.
type userPasswdCmd struct {
	control `embed:""`
	Name    string `arg:"" help:"Name of the account."`
}

// Run implements the subcommand.
func (c *userPasswdCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	password, err := readPassword(os.Stdin, t.err)
	if err != nil {
		return err
	}
	var now accounts.Account
	if err := g.post(userPath(c.Name, "password"), admin.PasswordRequest{Password: password}, &now); err != nil {
		return err
	}
	return c.showAccounts(t, []*accounts.Account{&now})
}

// userTOTPCmd takes a second factor off.
type userTOTPCmd struct {
	control `embed:""`
	Name    string `arg:"" help:"Name of the account."`
}

// Run implements the subcommand.
func (c *userTOTPCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var now accounts.Account
	if err := g.post(userPath(c.Name, "totp-reset"), struct{}{}, &now); err != nil {
		return err
	}
	return c.showAccounts(t, []*accounts.Account{&now})
}

// userDeleteCmd deletes an account.
type userDeleteCmd struct {
	control `embed:""`
	Name    string `arg:"" help:"Name of the account."`
}

// Run implements the subcommand.
func (c *userDeleteCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	if err := g.del(userPath(c.Name)); err != nil {
		return err
	}
	return t.print(fmt.Sprintf("deleted %s\n", c.Name))
}

// userTokenCmd is for API tokens.
type userTokenCmd struct {
	Add    tokenAddCmd    `cmd:"" help:"Make a token and print its secret, this once."`
	List   tokenListCmd   `cmd:"" help:"List the tokens of an account."`
	Delete tokenDeleteCmd `cmd:"" help:"End a token."`
}

// tokenAddCmd makes a token.
type tokenAddCmd struct {
	control `embed:""`
	Account string   `arg:"" help:"Name of the account that it acts for."`
	Name    string   `arg:"" help:"What it is for."`
	Scopes  []string `name:"scope" placeholder:"PERMISSION" help:"What it may do of what the account may, as queue:read; may come again. None: all."`
	Days    int      `default:"90" help:"How many days it is good; 0: for ever (default: ${default})."`
}

// Run implements the subcommand.
func (c *tokenAddCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	r := admin.TokenRequest{Name: c.Name, Days: c.Days}
	for _, s := range c.Scopes {
		r.Scopes = append(r.Scopes, accounts.Permission(s))
	}
	var made admin.NewToken
	if err := g.post(userPath(c.Account, "tokens"), r, &made); err != nil {
		return err
	}
	if c.JSON {
		return t.json(made)
	}
	return t.print(made.Secret + "\n")
}

// tokenListCmd lists tokens.
type tokenListCmd struct {
	control `embed:""`
	Account string `arg:"" help:"Name of the account."`
}

// Run implements the subcommand.
func (c *tokenListCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var all []*accounts.Token
	if err := g.get(userPath(c.Account, "tokens"), nil, &all); err != nil {
		return err
	}
	if c.JSON {
		return t.json(all)
	}
	var rows table
	rows.add("ID", "NAME", "SCOPES", "MADE", "USED", "EXPIRES")
	date := func(at time.Time) string {
		if at.IsZero() {
			return "never"
		}
		return at.Local().Format(time.DateTime)
	}
	for _, k := range all {
		scopes := "all"
		if len(k.Scopes) > 0 {
			scopes = strings.Trim(fmt.Sprint(k.Scopes), "[]")
		}
		rows.add(k.ID[:min(12, len(k.ID))], clean(k.Name), scopes, date(k.Created), date(k.Used), date(k.Expires))
	}
	return t.print(rows.text())
}

// tokenDeleteCmd ends a token.
type tokenDeleteCmd struct {
	control `embed:""`
	Account string `arg:"" help:"Name of the account."`
	ID      string `arg:"" name:"id" help:"ID of the token, or how it begins."`
}

// Run implements the subcommand.
func (c *tokenDeleteCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var all []*accounts.Token
	if err := g.get(userPath(c.Account, "tokens"), nil, &all); err != nil {
		return err
	}
	var found []*accounts.Token
	for _, k := range all {
		if strings.HasPrefix(k.ID, c.ID) {
			found = append(found, k)
		}
	}
	if len(found) != 1 || len(c.ID) < 4 {
		return usageError{fmt.Errorf("%d tokens of %s begin with %q; give 4 characters at least", len(found), c.Account, c.ID)}
	}
	if err := g.del(userPath(c.Account, "tokens", found[0].ID)); err != nil {
		return err
	}
	return t.print(fmt.Sprintf("ended %s\n", found[0].Name))
}
