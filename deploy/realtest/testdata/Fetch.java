import jakarta.mail.FetchProfile;
import jakarta.mail.Flags;
import jakarta.mail.Folder;
import jakarta.mail.Message;
import jakarta.mail.Session;
import jakarta.mail.Store;
import jakarta.mail.UIDFolder;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/**
 * One visit of Jakarta Mail: fetches what it has not seen, deletes what it is told to.
 *
 * <p>usage: Fetch HOST PORT plain|stls|tls CA-FILE USER PASSWORD FOLDER [NUMBER,...]. Jakarta Mail
 * takes the authority from a trust store, which the caller sets by javax.net.ssl.trustStore.
 */
public class Fetch {
  public static void main(String[] args) throws Exception {
    String protocol = args[2].equals("tls") ? "pop3s" : "pop3";
    String prefix = "mail." + protocol + ".";
    Properties p = new Properties();
    p.put(prefix + "timeout", "20000");
    p.put(prefix + "connectiontimeout", "20000");
    p.put(prefix + "ssl.checkserveridentity", "true");
    if (args[2].equals("stls")) {
      p.put(prefix + "starttls.enable", "true");
      p.put(prefix + "starttls.required", "true");
    }
    Store store = Session.getInstance(p).getStore(protocol);
    store.connect(args[0], Integer.parseInt(args[1]), args[4], args[5]);
    Folder inbox = store.getFolder("INBOX");
    inbox.open(Folder.READ_WRITE);
    Message[] all = inbox.getMessages();
    FetchProfile uids = new FetchProfile();
    uids.add(UIDFolder.FetchProfileItem.UID);
    inbox.fetch(all, uids);
    for (Message m : all) {
      String uid = (String) inbox.getClass().getMethod("getUID", Message.class).invoke(inbox, m);
      Path file = Path.of(args[6], uid);
      if (Files.notExists(file)) {
        try (OutputStream out = Files.newOutputStream(file)) {
          m.writeTo(out);
        }
      }
    }
    if (args.length > 7) {
      for (String number : args[7].split(",")) {
        all[Integer.parseInt(number) - 1].setFlag(Flags.Flag.DELETED, true);
      }
    }
    inbox.close(true);
    store.close();
  }
}
