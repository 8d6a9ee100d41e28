# One visit of Perl's Net::POP3: fetches what it has not seen, deletes what it
# is told to.
#
# usage: fetch.pl HOST PORT plain|stls|tls CA-FILE USER PASSWORD FOLDER [NUMBER,...]
use strict;
use warnings;
use Net::POP3;

my ($host, $port, $mode, $ca, $user, $password, $folder, $remove) = @ARGV;
my @tls = (SSL_ca_file => $ca, SSL_verifycn_name => $host);
my $box = Net::POP3->new($host, Port => $port, Timeout => 20, $mode eq 'tls' ? (SSL => 1, @tls) : ())
  or die "connect: $@\n";
$mode ne 'stls' or $box->starttls(@tls) or die 'STLS: ' . $box->message . "\n";

# auth() is SASL with the user as authorization identity; login() is USER and PASS.
my $in = $mode eq 'tls' ? $box->auth($user, $password) : $box->login($user, $password);
$in or die 'login: ' . $box->message . "\n";
my $uidl = $box->uidl or die 'UIDL: ' . $box->message . "\n";
for my $number (sort { $a <=> $b } keys %$uidl) {
    my $name = "$folder/$uidl->{$number}";
    next if -e $name;
    my $lines = $box->get($number) or die "RETR $number: " . $box->message . "\n";
    # Without TLS Net::Cmd has cut CRLF to LF, over TLS it has not.
    s/\015\012\z/\012/ for @$lines;
    open my $file, '>:raw', $name or die "$name: $!\n";
    print $file @$lines;
    close $file or die "$name: $!\n";
}
for my $number (split /,/, $remove // '') {
    $box->delete($number) or die "DELE $number: " . $box->message . "\n";
}
$box->quit or die 'QUIT: ' . $box->message . "\n";
