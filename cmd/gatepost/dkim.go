package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"gatepost/internal/dkim"
)

// dkimCmd is the group of DKIM commands.
type dkimCmd struct {
	New   dkimNewCmd   `cmd:"" help:"Make a key and print its DNS record."`
	Check dkimCheckCmd `cmd:"" help:"List the keys, and whether receivers find them in the DNS."`
}

// dkimNewCmd makes a signing key.
type dkimNewCmd struct {
	Domain   string `required:"" help:"Domain that signs."`
	Selector string `required:"" help:"Name of the key below the domain; a new one for each new key."`
	Type     string `default:"rsa2048" enum:"rsa2048,rsa4096,ed25519" help:"Kind of key: rsa2048, rsa4096 or ed25519. Not every receiver verifies ed25519 yet."`
	Out      string `required:"" placeholder:"FILE" help:"File for the private key; it must not exist yet."`
}

// Help is the long help text.
func (*dkimNewCmd) Help() string {
	return `Writes a new private key (PEM, readable by its owner only) and prints the DNS
record that publishes it, in the form of a zone file. Add the record to the zone,
wait until every name server has it, then name the key in the configuration:

  gatepost dkim new --domain example.com --selector s1 --out /etc/gatepost/dkim-s1.pem

  [[dkim]]
  name = "example.com"
  domain = "example.com"
  selector = "s1"
  key_file = "dkim-s1.pem"`
}

// Run implements the subcommand.
func (c *dkimNewCmd) Run(t *terminal) error {
	key, err := dkim.GenerateKey(c.Type)
	if err != nil {
		return err
	}
	// The record first: what is wrong with the names should leave no file.
	record, err := dkim.DNSRecord(c.Selector, c.Domain, key.Public())
	if err != nil {
		return usageError{err}
	}
	pem, err := dkim.MarshalKey(key)
	if err != nil {
		return err
	}
	if err := writeNew(c.Out, pem); err != nil {
		return err
	}
	return t.print(record.String() + "\n")
}

// writeNew writes a file that did not exist, with mode 0600, and syncs it.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write key: %s exists already; a key that is in use must not be overwritten", path)
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write key: %w", err), os.Remove(path))
	}
	return nil
}
