package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"syscall"

	"gatepost/internal/admin"
	"gatepost/internal/config"
)

// control is how commands find the running gateway.
type control struct {
	Config string `short:"c" default:"/etc/gatepost/gatepost.toml" placeholder:"FILE" help:"Configuration file; the gateway's socket is in its data_dir (default: ${default})."`
	Socket string `placeholder:"FILE" help:"The gateway's socket itself; then no configuration is read."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// client talks to the running gateway.
type client struct {
	socket string
	http   *http.Client
	ctx    context.Context
}

// open finds the socket. The caller calls the function that it returns at the end.
func (c *control) open() (*client, func(), error) {
	socket := c.Socket
	if socket == "" {
		dir := config.DataDir(c.Config)
		if dir == "" {
			return nil, nil, fmt.Errorf("find the gateway's socket: no data_dir can be read in %s (see gatepost check, or use --socket)", c.Config)
		}
		socket = filepath.Join(string(dir), admin.SocketName)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return admin.DialSocket(ctx, socket)
		},
	}
	done := func() {
		transport.CloseIdleConnections()
		stop()
	}
	return &client{socket: socket, http: &http.Client{Transport: transport}, ctx: ctx}, done, nil
}

// get asks for path and decodes the answer into v.
func (c *client) get(path string, query url.Values, v any) error {
	u := url.URL{Scheme: "http", Host: "gatepost", Path: path, RawQuery: query.Encode()}
	return c.do(http.MethodGet, u.String(), nil, v)
}

// post sends body as JSON to path and decodes the answer into v.
func (c *client) post(path string, body, v any) error {
	return c.request(http.MethodPost, path, body, v)
}

// request sends body as JSON to path by a method and decodes the answer into v.
func (c *client) request(method, path string, body, v any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	u := url.URL{Scheme: "http", Host: "gatepost", Path: path}
	return c.do(method, u.String(), bytes.NewReader(b), v)
}

func (c *client) do(method, address string, body io.Reader, v any) error {
	req, err := http.NewRequestWithContext(c.ctx, method, address, body)
	if err != nil {
		return err
	}
	req.Header.Set(admin.ByHeader, whoami())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.answer(req, v)
}

// answer sends a request and decodes what comes back into v.
func (c *client) answer(req *http.Request, v any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	return readAnswer(resp, v)
}

// readAnswer decodes an answer into v, or into an error.
func readAnswer(resp *http.Response, v any) error {
	d := json.NewDecoder(resp.Body)
	if resp.StatusCode == http.StatusOK {
		if err := d.Decode(v); err != nil {
			return fmt.Errorf("read the gateway's answer: %w", err)
		}
		return nil
	}
	var f admin.Failure
	if err := d.Decode(&f); err != nil || f.Error == "" {
		return fmt.Errorf("the gateway answered %s", resp.Status)
	}
	if resp.StatusCode == http.StatusBadRequest {
		return usageError{errors.New(f.Error)}
	}
	return errors.New(f.Error)
}

// explain says in plain words why nobody could be asked.
func (c *client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the gateway is not running: nobody answers on %s", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to use %s: run this as root or as the user that runs the gateway", c.socket)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; what the gateway has begun may be done or not")
	}
	return fmt.Errorf("ask the gateway: %w", err)
}

// whoami names the person at the keyboard, for the gateway's log.
func whoami() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// statusCmd shows how the gateway is.
type statusCmd struct {
	control `embed:""`
}

// Help is the long help text.
func (*statusCmd) Help() string {
	return `Shows version, listeners and the state of every part, as /healthz does. The exit
status is 1 when the gateway is not ready to take mail.`
}

// Run implements the subcommand.
func (c *statusCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var s admin.Status
	if err := g.get("/api/v1/status", nil, &s); err != nil {
		return err
	}
	if err := c.show(t, &s); err != nil {
		return err
	}
	if !s.Ready {
		return errSaid
	}
	return nil
}

// show prints a status.
func (c *control) show(t *terminal, s *admin.Status) error {
	if c.JSON {
		return t.json(s)
	}
	return t.print(statusText(s))
}

// reloadCmd has the configuration loaded again.
type reloadCmd struct {
	control `embed:""`
}

// Help is the long help text.
func (*reloadCmd) Help() string {
	return `Has the running gateway load its configuration again, all or nothing, without
dropping a session. If something is wrong with it, everything that is wrong is
printed and the old one stays in use.`
}

// Run implements the subcommand.
func (c *reloadCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var s admin.Status
	if err := g.post("/api/v1/reload", struct{}{}, &s); err != nil {
		return err
	}
	return c.show(t, &s)
}
