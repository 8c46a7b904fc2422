package child

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

// failure is an error that knows how the request ends.
type failure struct {
	wire.End
	again bool // a second attempt may do better
}

func (f *failure) Error() string { return string(f.Code) + ": " + f.Text }

func fail(code wire.Code, format string, args ...any) *failure {
	return &failure{End: wire.End{Code: code, Text: fmt.Sprintf(format, args...)}}
}

// endFor returns the frame that reports err.
func endFor(err error) wire.End {
	if err == nil {
		return wire.End{Code: wire.CodeOK}
	}
	end := wire.End{Code: wire.CodeUnavailable, Text: err.Error()}
	var f *failure
	if errors.As(err, &f) {
		end = f.End
	}
	end.Text = end.Text[:min(len(end.Text), wire.MaxText)]
	return end
}

func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
