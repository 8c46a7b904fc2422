//go:build race

package agent_test

// raceDetector is set because a history then takes ten times as long.
const raceDetector = true
