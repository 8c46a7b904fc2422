package server

import (
	"strings"
	"testing"
	"time"
)

func TestCheckRaisesTheAlarmAtHalfLife(t *testing.T) {
	s, c := newSite(t)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	c.t = c.t.Add(37 * time.Hour) // a timestamp lives 72
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "role timestamp expires") {
		t.Errorf("got %v, want a word about the timestamp", err)
	}
	if _, err := s.Renew(t.Context(), RenewOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("after a renewal: %v", err)
	}
	c.t = c.t.Add(80 * time.Hour)
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "role timestamp expired") {
		t.Errorf("got %v", err)
	}
}
