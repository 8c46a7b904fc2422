//go:build race

package histories

// raceDetector is set because a history then takes ten times as long.
const raceDetector = true
