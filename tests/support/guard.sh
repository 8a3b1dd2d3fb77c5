# Ends every process whose working folder lies in $1 and removes the folder, once its
# standard input closes. Run by `sh` in a session of its own, so that no Ctrl-C meets it.
# A server gets five seconds to end by itself, because only then it gives its shared
# memory back.
folder=$1
cd /
while read -r _; do :; done
inside() { find /proc -maxdepth 2 -name cwd -lname "$folder*" "$@" 2>/dev/null | cut -d/ -f3; }
signal() {
  name=$1
  shift
  for pid in $(inside "$@"); do kill -s "$name" "$pid" 2>/dev/null; done
}
signal CONT
# All but the servers, which work in their data folders.
signal KILL ! -lname '*/data'
for file in "$folder"/data/postmaster.pid "$folder"/*/data/postmaster.pid; do
  [ -r "$file" ] && read -r postmaster <"$file" && kill -s QUIT "$postmaster" 2>/dev/null
done
tries=0
while [ -n "$(inside)" ] && [ -n "${postmaster:-}" ] && [ $tries -lt 50 ]; do
  sleep 0.1
  tries=$((tries + 1))
done
while [ -n "$(inside)" ]; do
  signal KILL
  sleep 0.1
done
rm -rf "$folder"
