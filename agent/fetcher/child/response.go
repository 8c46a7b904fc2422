package child

import (
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

// nextRoot is the one kind of file for which "forbidden" means "absent": the client
// finds the newest root by asking for the next one, and buckets that may not be listed
// answer 403 for what they do not hold.
var nextRoot = regexp.MustCompile(`^metadata/[0-9]+\.root\.json$`)

// statusFailure judges the status line; nil means that there is a body worth reading.
func statusFailure(resp *http.Response, path string) error {
	status := resp.StatusCode
	var f *failure
	switch {
	case status == http.StatusOK || status == http.StatusPartialContent:
		return nil
	case status == http.StatusNotFound || status == http.StatusGone,
		status == http.StatusForbidden && nextRoot.MatchString(path):
		f = fail(wire.CodeAbsent, "got HTTP status %d", status)
	case status == http.StatusRequestedRangeNotSatisfiable:
		f = fail(wire.CodeBroken, "got HTTP status 416: the server's file is shorter than the range")
	case status < 400:
		f = fail(wire.CodeBroken, "got HTTP status %d, want 200 or 206", status)
	default:
		f = fail(wire.CodeUnavailable, "got HTTP status %d", status)
		f.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	f.Status = status
	return f
}

// retryAfter reads the header of that name, seconds or a date, capped at an hour.
// What cannot be read is no wait.
func retryAfter(text string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 63); err == nil {
		wait = time.Duration(min(seconds, uint64(wire.MaxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(text); err == nil {
		wait = date.Sub(now)
	}
	return min(max(wait, 0), wire.MaxRetryAfter)
}

// accept checks the header of a response against what was asked for. It returns how
// much of the body lies ahead of start and how many bytes the rest has, or unknown.
func (t *transfer) accept(resp *http.Response, start int64, asked bool) (skip, length int64, err error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return 0, 0, fail(wire.CodeBroken, "got content encoding %.40q, want none", e)
	}
	if m, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); m == "text/html" {
		return 0, 0, fail(wire.CodeBroken, "got a web page instead of the file, as a captive portal sends it")
	}
	etag := resp.Header.Get("ETag")
	if strings.HasPrefix(etag, "W/") || len(etag) > 256 {
		etag = "" // a weak one does not promise the same bytes
	}
	total := int64(unknown)
	if resp.StatusCode == http.StatusPartialContent {
		if !asked {
			return 0, 0, fail(wire.CodeBroken, "got HTTP status 206 to a request without a range")
		}
		if length, total, err = t.acceptRange(resp, start); err != nil {
			return 0, 0, err
		}
	} else {
		if skip, length, err = t.acceptWhole(resp, start); err != nil {
			return 0, 0, err
		}
		total = resp.ContentLength
	}
	if t.sent > 0 && (etag != t.etag || total != t.total && total != unknown && t.total != unknown) {
		return 0, 0, fail(wire.CodeUnavailable, "the file changed while it was read")
	}
	t.etag = etag
	if total != unknown {
		t.total = total
	}
	return skip, length, nil
}

func (t *transfer) acceptRange(resp *http.Response, start int64) (length, total int64, err error) {
	text := resp.Header.Get("Content-Range")
	first, last, total, ok := parseContentRange(text)
	end := t.last()
	if total != unknown {
		end = min(end, total-1)
	}
	if !ok || first != start || last > end || total != unknown && last != end {
		return 0, 0, fail(wire.CodeBroken, "got content range %.80q, want bytes %d-%d", text, start, t.last())
	}
	length = last - first + 1
	if resp.ContentLength >= 0 && resp.ContentLength != length {
		return 0, 0, fail(wire.CodeBroken, "got content length %d with content range %.80q", resp.ContentLength, text)
	}
	return length, total, nil
}

func (t *transfer) acceptWhole(resp *http.Response, start int64) (skip, length int64, err error) {
	total := resp.ContentLength
	switch {
	case start > maxSkip:
		return 0, 0, fail(wire.CodeBroken, "the server knows no ranges, and offset %d is too far to skip to", start)
	case start > 0 && total >= 0 && start >= total:
		return 0, 0, fail(wire.CodeBroken, "got %d bytes, want more than the offset %d", total, start)
	case total < 0:
		return start, unknown, nil
	}
	return start, total - start, nil
}

// parseContentRange reads "bytes first-last/total", where total may be "*".
func parseContentRange(text string) (first, last, total int64, ok bool) {
	rest, ok := strings.CutPrefix(text, "bytes ")
	if !ok {
		return 0, 0, 0, false
	}
	span, size, ok := strings.Cut(rest, "/")
	from, to, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, 0, false
	}
	first, ok = position(from)
	last, ok2 = position(to)
	if !ok || !ok2 || first > last {
		return 0, 0, 0, false
	}
	if size == "*" {
		return first, last, unknown, true
	}
	if total, ok = position(size); !ok || last >= total {
		return 0, 0, 0, false
	}
	return first, last, total, true
}

// position reads a number of digits only; ParseInt alone would take a sign.
func position(text string) (int64, bool) {
	if text == "" || text[0] < '0' || text[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// isHeaderFault tells a response that net/http could not read as HTTP from a
// connection that broke. Its errors have no type to ask for.
func isHeaderFault(err error) bool {
	text := err.Error()
	return strings.Contains(text, "malformed") || strings.Contains(text, "exceeded") && strings.Contains(text, "header")
}
