package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
)

// nowhere is a repository without any file.
type nowhere struct{}

// Fetch implements signing.Source.
func (nowhere) Fetch(_ context.Context, path string, _ int64) ([]byte, error) {
	return nil, fmt.Errorf("get %s: %w", path, fs.ErrNotExist)
}

// source is a repository over HTTP: metadata under one URL, targets under another.
type source struct {
	metadata, targets string
	client            http.Client
}

func newSource(metadata, targets string) *source {
	return &source{
		metadata: strings.TrimSuffix(metadata, "/") + "/",
		targets:  strings.TrimSuffix(targets, "/") + "/",
		client: http.Client{
			Transport: &http.Transport{
				DisableCompression:     true, // lengths and digests are of what is sent
				MaxResponseHeaderBytes: 16 << 10,
			},
			// A redirect would be one more request, of a place that nobody named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// url returns where the file is. Role names arrive percent-encoded, as signing says;
// the names of targets arrive as they are listed.
func (s *source) url(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "metadata/"); ok {
		return s.metadata + rest, nil
	}
	rest, ok := strings.CutPrefix(path, "targets/")
	if !ok {
		return "", fmt.Errorf("path %q: is neither metadata nor a target", path)
	}
	elements := strings.Split(rest, "/")
	for i, e := range elements {
		elements[i] = url.PathEscape(e)
	}
	return s.targets + strings.Join(elements, "/"), nil
}

// Fetch implements signing.Source.
func (s *source) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	where, err := s.url(path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("get %s: %s: %w", where, res.Status, fs.ErrNotExist)
	case http.StatusForbidden:
		return nil, fmt.Errorf("get %s: %s: %w", where, res.Status, fs.ErrPermission)
	default:
		return nil, fmt.Errorf("get %s: got %s", where, res.Status)
	}
	// One byte more than allowed lets signing say what is wrong.
	return io.ReadAll(io.LimitReader(res.Body, limit+1))
}
