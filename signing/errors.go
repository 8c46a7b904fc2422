package signing

import "errors"

// Codes of an Error: stable words that reach the operator as reason codes.
const (
	// Expired: what the repository says is too old to act on. Installed things run on.
	Expired = "expired"
	// Untrusted: something does not verify, or the host's own floors cannot be read.
	Untrusted = "untrusted"
	// RootWithheld: the chain of roots ends below one that this host has seen.
	RootWithheld = "root-withheld"
	// Unavailable: nothing can be said, because the Source did not deliver.
	Unavailable = "unavailable"
	// ClockBehind: the clock is earlier than a time that signed data proves. It is
	// reported by Client.ClockBehind and stops nothing, as the proven time is used.
	ClockBehind = "clock-behind"
)

// Error says why something is not trusted, or not now. Errors of the host's own
// directory are passed on as they are, without a code.
type Error struct {
	Code string // one of the codes above
	Err  error
}

// Error returns the text of the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns the code of the *Error in the chain of err, or "".
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
