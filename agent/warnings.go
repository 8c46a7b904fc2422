package agent

import (
	"fmt"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// earlyWarning is how long before the end of what people sign the host begins to speak of
// it. The timestamp, which a machine signs, has its own measure: half its life.
const earlyWarning = 14 * 24 * time.Hour

// trustWarnings says what about the trust metadata people should look at although nothing
// is refused yet.
func trustWarnings(s signing.State, now time.Time) []string {
	var list []string
	for _, r := range s.Roles {
		left := r.Expires.Sub(now)
		switch {
		case left <= 0:
			list = append(list, fmt.Sprintf("%s expired at %s: the publisher has to renew it", r.Name, r.Expires.Format(time.RFC3339)))
		case r.Name == "timestamp" && left < r.Expires.Sub(s.TimeFloor)/2:
			list = append(list, fmt.Sprintf("the timestamp has lived half its life since %s and was not renewed; it expires at %s",
				s.TimeFloor.Format(time.RFC3339), r.Expires.Format(time.RFC3339)))
		case r.Name != "timestamp" && r.Name != "snapshot" && !strings.HasPrefix(r.Name, "fleet-") && left < earlyWarning:
			list = append(list, fmt.Sprintf("%s expires at %s: the publisher has to renew it", r.Name, r.Expires.Format(time.RFC3339)))
		}
	}
	if w := s.Log.Warning; w != "" {
		list = append(list, w)
	}
	for _, text := range s.Log.Refused {
		list = append(list, "refused at "+text)
	}
	return list
}

// withdrawnText says when and why a release was taken back.
func withdrawnText(v release.Version, w signing.Withdrawal) string {
	return fmt.Sprintf("release %s was withdrawn on %s: %.500s", v, w.Time.Format(time.DateOnly), w.Reason)
}

// withdrawnHere says whether what runs was taken back by its publisher; "" if not.
func (a *Agent) withdrawnHere(c *signing.Client, m machine) string {
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return ""
	}
	running, err := a.st.deployment(p.Current)
	if err != nil || running == nil || running.Version.IsZero() {
		return ""
	}
	w, ok := c.Withdrawn(release.TargetName(a.o.Channel, a.o.Compatible, running.Version))
	if !ok {
		return ""
	}
	return withdrawnText(running.Version, w) + "; it runs here"
}
