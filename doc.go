// Package messaging holds the words that every room of the service speaks: a
// [Draft] is what a client asked to have sent, a [Message] is what the service
// stored and hands on, a [UserID] names whose queue it stands in, a [Priority]
// says in which order, and an [Error] says what went wrong to a program (its
// code) and to a person (its sentence).
//
// The package reads and checks what clients send ([ParseDraft],
// [ParseBroadcast]) and writes what readers and the backend get
// ([Message.AppendJSON]). A body is kept as it came: numbers keep their digits,
// fields that the service does not know go through, and what the service adds
// is spliced in front of the members that the client wrote.
//
// Nothing here touches a disk, a network or a clock.
package messaging
