// Command notes is a small real application: it keeps what is posted to it in /data,
// shows it, and moves its data to the form of its version when it starts. Which version
// it is says the file /etc/notes of its image.
//
//	1       one note a line, in notes.txt
//	2       a list in notes.json; what version 1 left is taken over
//	broken  takes over what version 2 left, loses all of it, and is not healthy
//
// Beside the one that serves, in its container, "notes post TEXT" posts a note to it, and
// "notes show" says what it shows.
package main
