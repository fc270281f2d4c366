package metrics

// What became of a login, as Login counts it.
const (
	LoginOK      = "ok"
	LoginFailed  = "failed"  // a wrong name or password
	LoginUnknown = "unknown" // nobody could tell
	LoginLocked  = "locked"  // nobody was asked: too many had failed
)

func (m *Metrics) addLogins() {
	m.logins = m.counterVec("gatepost_logins_total", "Logins of users, by result: ok, failed, unknown (nobody could tell) or locked (nobody was asked: too many had failed).", "listener", "result")
	m.heldForUsers = m.counterVec("gatepost_user_limit_held_total", "Messages of users who had logged in that were held because a limit of [users] was exceeded.", "listener")
}

// Login counts a login; the result is one of the constants.
func (m *Metrics) Login(listener, result string) { m.logins.WithLabelValues(listener, result).Inc() }

// HeldForUser counts a message over a limit of its user.
func (m *Metrics) HeldForUser(listener string) { m.heldForUsers.WithLabelValues(listener).Inc() }
