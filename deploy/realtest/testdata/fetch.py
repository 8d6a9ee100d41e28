"""One visit of Python's poplib: fetches what it has not seen, deletes what it is told to.

usage: fetch.py HOST PORT plain|stls|tls CA-FILE USER PASSWORD FOLDER [NUMBER,...]
"""
import os
import poplib
import ssl
import sys

# poplib refuses lines of more than 2048 octets; the test set has longer ones.
poplib._MAXLINE = 1 << 20

host, port, mode, ca, user, password, folder = sys.argv[1:8]
remove = [int(n) for n in sys.argv[8].split(",")] if len(sys.argv) > 8 else []
context = ssl.create_default_context(cafile=ca)
if mode == "tls":
    box = poplib.POP3_SSL(host, int(port), timeout=20, context=context)
else:
    box = poplib.POP3(host, int(port), timeout=20)
    if mode == "stls":
        box.stls(context)
if "UIDL" not in box.capa():
    sys.exit("UIDL is not announced before the login")
box.user(user)
box.pass_(password)
count, octets = box.stat()
uidl = dict(line.decode("ascii").split(" ") for line in box.uidl()[1])
if count != len(uidl):
    sys.exit("STAT says %d messages, UIDL %d" % (count, len(uidl)))
if octets != sum(int(line.split()[1]) for line in box.list()[1]):
    sys.exit("STAT and LIST do not agree on the octets")
for number, uid in uidl.items():
    name = os.path.join(folder, uid)
    if not os.path.exists(name):
        lines = box.retr(int(number))[1]
        with open(name, "wb") as f:
            f.write(b"".join(line + b"\r\n" for line in lines))
for number in remove:
    box.dele(number)
box.quit()
