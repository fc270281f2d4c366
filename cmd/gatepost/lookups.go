package main

import (
	"gatepost/internal/ldap"
	"gatepost/internal/weblookup"
)

// directory is an [[ldap]] that others look things up in.
type directory struct {
	*ldap.Directory
}

// web is an [[http]] that others ask.
type web struct {
	*weblookup.Client
}

// buildLookups makes the directories and web services of a generation.
func (a *app) buildLookups(g, old *generation) error { return nil }
