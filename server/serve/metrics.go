package serve

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// statuses are those with a counter of their own; others are counted as "other".
var statuses = [...]int{
	http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusNotFound, http.StatusMethodNotAllowed,
	http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable, http.StatusInternalServerError, http.StatusServiceUnavailable,
}

// metrics holds the counters. All are made beforehand: counting is one atomic addition
// and no look-up by labels, and no client can make a new one.
type metrics struct {
	handler  http.Handler
	inFlight prometheus.Gauge
	requests [kindCount][len(statuses) + 1]prometheus.Counter
	bytes    [kindCount]prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	m := &metrics{inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "twinkeel_requests_in_flight", Help: "Requests that are being answered.",
	})}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "twinkeel_requests_total", Help: "Requests answered, by kind of file and HTTP status. Polls without news are timestamp, 304.",
	}, []string{"kind", "status"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "twinkeel_sent_bytes_total", Help: "Bytes of bodies sent, by kind of file.",
	}, []string{"kind"})
	for k, name := range kindNames {
		m.bytes[k] = bytes.WithLabelValues(name)
		for i, status := range statuses {
			m.requests[k][i] = requests.WithLabelValues(name, strconv.Itoa(status))
		}
		m.requests[k][len(statuses)] = requests.WithLabelValues(name, "other")
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m.inFlight, requests, bytes, newShelf(s.root, s.options.Log),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Registry: r})
	return m
}

func (m *metrics) count(k kind, status int, bytes int64) {
	column := len(statuses)
	for i, s := range statuses {
		if s == status {
			column = i
			break
		}
	}
	m.requests[k][column].Inc()
	if bytes > 0 {
		m.bytes[k].Add(float64(bytes))
	}
}
