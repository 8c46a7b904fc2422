package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

// Error is a request that the process answered with anything but success. It is
// fs.ErrNotExist when the server has no such file, and agent.ErrUnavailable when the
// answer says nothing about the content.
type Error struct {
	Object string        // what was asked for, as "get metadata/timestamp.json"
	Code   string        // absent, unavailable, broken, invalid, corrupt or unhealthy
	Status int           // HTTP status, or 0
	Text   string        // for people; printable
	Wait   time.Duration // how long the server asked to be left alone, at most 1 h
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Object, e.Code, e.Text) }

// Is implements the promise about fs.ErrNotExist and agent.ErrUnavailable.
func (e *Error) Is(target error) bool {
	switch wire.Code(e.Code) {
	case wire.CodeAbsent:
		return target == fs.ErrNotExist
	case wire.CodeUnavailable, wire.CodeBroken:
		return target == agent.ErrUnavailable
	}
	return false
}

// After is how long the server asked to be left alone, or 0.
func (e *Error) After() time.Duration { return e.Wait }

// errorOf turns the end of an answer into an error; nil is success.
func errorOf(object string, end wire.End) error {
	if end.Code == wire.CodeOK {
		return nil
	}
	return &Error{
		Object: object,
		Code:   string(end.Code),
		Status: end.Status,
		Text:   printable(end.Text),
		Wait:   end.RetryAfter,
	}
}

// printable replaces what could steer a terminal or a log.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// lost is the error of a request whose connection to the process failed.
func lost(ctx context.Context, object string, err error) error {
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("%s: %w", object, cause)
	case cause != nil:
		return fmt.Errorf("%s: %w: %w", object, agent.ErrUnavailable, cause)
	}
	return fmt.Errorf("%s: %w: fetcher: %w", object, agent.ErrUnavailable, err)
}
