package signing_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// sourceFunc is a Source made of a function.
type sourceFunc func(ctx context.Context, path string, limit int64) ([]byte, error)

func (f sourceFunc) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	return f(ctx, path, limit)
}

// without hides one path of a source.
func without(src signing.Source, path string) signing.Source {
	return failing(src, path, fs.ErrNotExist)
}

// failing answers one path with an error.
func failing(src signing.Source, path string, err error) signing.Source {
	return sourceFunc(func(ctx context.Context, p string, limit int64) ([]byte, error) {
		if p == path {
			return nil, fmt.Errorf("get %s: %w", p, err)
		}
		return src.Fetch(ctx, p, limit)
	})
}

// replacing serves other bytes at one path, and pays no heed to the limit.
func replacing(src signing.Source, path string, b []byte) signing.Source {
	return sourceFunc(func(ctx context.Context, p string, limit int64) ([]byte, error) {
		if p == path {
			return bytes.Clone(b), nil
		}
		return src.Fetch(ctx, p, limit)
	})
}

// sum is the text of a SHA-256.
func sum(s string) string { return release.DigestOf([]byte(s)).String() }
